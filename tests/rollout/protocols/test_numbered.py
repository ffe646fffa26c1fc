"""Numbered texts between tags, and protocols that read graphs of work where tags are plain text."""

import pytest
from protocol_lab import PARTS, LetterEncoder, WordEncoder, build

from data.episodes.trajectory import Call, Episode, Forced, Ref, Span, StopReason
from data.text.prompt import Prompt
from rollout.demonstrate import demonstrate
from rollout.protocols import PROTOCOLS, ThinkingProtocol
from rollout.protocols.shared.base import EOS, Encoder, Reading, Tags


class PieceEncoder(LetterEncoder):
    """Ids below 100 are pieces of text, given by the test; above, letters."""

    def __init__(self, *vocabulary: str) -> None:
        self._vocabulary = vocabulary

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(1000 + ord(letter) for letter in text)

    def pieces(self, ids: object) -> list[str]:
        assert isinstance(ids, tuple)
        return [chr(index - 1000) if index >= 1000 else self._vocabulary[index - 1] for index in ids]


def reading(*pieces: str) -> Reading:
    call = Call(
        index=3,
        thread=0,
        role="",
        context=(),
        output=tuple(range(1, len(pieces) + 1)),
        logprobs=(),
        versions=(),
        stop=StopReason.STOP,
        after=(),
        num_trained=0,
    )
    return Tags(("<a>", "</a>"), PieceEncoder(*pieces)).read(call)


def letters(text: str) -> Forced:
    return Forced(ids=tuple(1000 + ord(letter) for letter in text))


@pytest.mark.parametrize(
    ("pieces", "index", "words"),
    [
        (("<a>", " 1", " :", " 6", " 7", "</a>"), "1", (Ref(call=3, start=3, stop=5),)),
        (("<a>", "12: ", "6", "</a>"), "12", (Ref(call=3, start=2, stop=3),)),
        (("<a>", "0", "1", ":", "6", "</a>"), "1", (Ref(call=3, start=4, stop=5),)),
        # A token that the index shares with the words is encoded anew, from where the words begin.
        (("<a>", "1: 6", " 7", "</a>"), "1", (letters(" 6"), Ref(call=3, start=2, stop=3))),
        # So is one that a tag shares with either.
        (("<a>1: 6", " 7</a>"), "1", (letters(" 6"), letters(" 7"))),
        (("<a", ">1", ":", "7", "8</", "a>"), "1", (Ref(call=3, start=3, stop=4), letters("8"))),
        (("<a>1: 6</a>",), "1", (letters(" 6"),)),
        (("<a>", "1:", "</a>"), "1", ()),
        (("<a>", " 1", " 6", "</a>"), None, (Ref(call=3, start=1, stop=3),)),
        (("<a>", " :", " 6", "</a>"), None, (Ref(call=3, start=1, stop=3),)),
        # So many digits are no index.
        (("<a>", "1234567:", "6", "</a>"), None, (Ref(call=3, start=1, stop=3),)),
        (("<a>", "²:", "6", "</a>"), None, (Ref(call=3, start=1, stop=3),)),
    ],
)  # fmt: skip
def test_an_index_is_split_from_the_words_behind_it(
    pieces: tuple[str, ...], index: str | None, words: tuple[Span, ...]
) -> None:
    read = reading(*pieces)
    opening, closing = read.marks
    assert read.numbered(opening, closing) == (index, words)


def shown(protocol: ThinkingProtocol, encoder: Encoder, prompt: Prompt) -> list[tuple[str, str]]:
    """Contexts and outputs of a demonstration, without spaces and without the end of the sequence."""
    episode = demonstrate(protocol, prompt, PARTS, id="0", problem_id="p", max_length=5000)
    assert isinstance(episode, Episode)
    found = []
    for call in episode.calls:
        texts = (
            "".join(encoder.pieces([index for index in ids if index != encoder.eos]))
            for ids in (episode.context_ids(call), call.output)
        )
        found.append(tuple("".join(text.split()) for text in texts))
    return found


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("async_fork", ("organizer_tokens", "worker_tokens")),
        ("plan_graph", ("planner_tokens", "node_tokens")),
        ("subtask_tree", ("call_tokens",)),
    ],
)
def test_tags_that_are_text_make_the_same_episode_as_tags_that_are_tokens(
    name: str, tokens: tuple[str, ...]
) -> None:
    cls = PROTOCOLS[name]
    params = cls.params_class.model_validate(
        {"name": name, "framing": {"kind": "tags"}, **dict.fromkeys(tokens, 2000)}
    )
    spelled = cls(params, LetterEncoder())
    in_letters = shown(spelled, LetterEncoder(), Prompt("1 2 3"))
    assert in_letters == shown(build(name), WordEncoder(), Prompt("1 2 3"))
    assert any(EOS not in output and output for _, output in in_letters)
