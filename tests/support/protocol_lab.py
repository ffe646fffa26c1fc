"""Drive a protocol without an engine: a script speaks for the model, a test picks who comes back first."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

from data.episodes.trajectory import Episode, StopReason, VersionSpan
from data.tasks.search_tree import SearchNode, SearchTree
from data.text.piece import Piece
from data.text.prompt import Message, Prompt
from rollout.commands import CallResult, Cancel, Generate
from rollout.machine import EpisodeMachine
from rollout.protocols import PROTOCOLS, ThinkingProtocol, default_params, vocabulary
from rollout.protocols.shared.dialects import DIALECTS

NUMBERS = 48
PROMPT = Prompt("1 2 3")
EOS = 49
_PARAMS = [
    *map(default_params, PROTOCOLS),
    *(PROTOCOLS["outlined_threads"].params_class(name="outlined_threads", dialect=name) for name in DIALECTS),
]
_WORDS = dict.fromkeys(word for params in _PARAMS for words in vocabulary(params) for word in words)
IDS = {word: 50 + number for number, word in enumerate(_WORDS)}
"""Numbers 1..48 are their own ids; tags and words follow."""
TEXTS = {index: word for word, index in IDS.items()}


class WordEncoder:
    """One id a word."""

    eos = EOS
    ends = (EOS,)
    words_only = True
    opening = ()
    has_template = False

    def encode(self, text: str) -> tuple[int, ...]:
        return ids(text)

    def encode_pieces(self, pieces: Sequence[Piece], *, continues: bool = False) -> tuple[int, ...]:
        raise AssertionError("words are encoded one by one")

    def chat(self, messages: Sequence[Message], arguments: object = None) -> list[Piece]:
        raise AssertionError("there is no template")

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [f" {TEXTS.get(index, index)}" for index in ids]

    def tag(self, tag: str) -> int | None:
        return IDS[tag]


class LetterEncoder:
    """One id a letter: every tag is ordinary text, split over many tokens."""

    eos = 0
    ends = (0,)
    words_only = False
    opening = ()
    has_template = False

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))

    def encode_pieces(self, pieces: Sequence[Piece], *, continues: bool = False) -> tuple[int, ...]:
        return tuple(map(ord, "".join(piece.text for piece in pieces)))

    def chat(self, messages: Sequence[Message], arguments: object = None) -> list[Piece]:
        raise AssertionError("there is no template")

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return ["" if index == self.eos else chr(index) for index in ids]

    def tag(self, tag: str) -> int | None:
        return None


def ids(text: str) -> tuple[int, ...]:
    """Ids of numbers, tags and words."""
    return tuple(EOS if word == "<eos>" else IDS[word] if word in IDS else int(word) for word in text.split())


def text(ids: Sequence[int]) -> str:
    """What ids stand for."""
    return " ".join("<eos>" if index == EOS else TEXTS.get(index, str(index)) for index in ids)


def build(name: str, **params: object) -> ThinkingProtocol:
    """A protocol over the words of this module; parameters as in a recipe."""
    return PROTOCOLS[name](
        PROTOCOLS[name].params_class.model_validate({"name": name, **params}), WordEncoder()
    )


def drive(
    protocol: ThinkingProtocol,
    say: Callable[[Generate], tuple[int, ...]],
    *,
    pick: Callable[[int], int] = lambda n: 0,
    max_length: int = 1000,
    fail: Callable[[Generate], bool] = lambda _: False,
    on_result: Callable[[CallResult], object] = lambda _: None,
    prompt: Prompt = PROMPT,
    stopped: Callable[[Generate, tuple[int, ...]], bool] = lambda generate, output: False,
) -> Episode:
    """Runs a machine; `pick(n)` chooses which of n calls in flight comes back next. `stopped`: whether an
    output ends at a stop that is text.
    """
    machine = EpisodeMachine(protocol, prompt, id="0/0", problem_id="p", max_length=max_length)
    flying: list[tuple[Generate, bool]] = []
    times = count()

    def take(commands: list[object]) -> None:
        for command in commands:
            if isinstance(command, Cancel):
                flying[:] = [(g, cancelled or g.call == command.call) for g, cancelled in flying]
            else:
                assert isinstance(command, Generate)
                flying.append((command, False))

    take(list(machine.begin()))
    while not machine.done:
        assert flying, "deadlock"
        generate, cancelled = flying.pop(pick(len(flying)))
        result = _result(generate, say(generate), cancelled, fail(generate), float(next(times)))
        if result.stop is StopReason.LENGTH and stopped(generate, result.output):
            result = replace(result, stop=StopReason.STOP)
        on_result(result)
        take(list(machine.on_result(generate.call, result)))
    assert not flying
    return machine.episode()


def _result(
    generate: Generate, said: tuple[int, ...], cancelled: bool, failed: bool, at: float
) -> CallResult:
    if failed:
        return CallResult(
            output=(), logprobs=(), versions=(), stop=StopReason.ERROR, started_s=at, finished_s=at
        )
    output: list[int] = []
    stop = StopReason.LENGTH
    for token in said[: generate.max_tokens]:
        output.append(token)
        if token in generate.stops.ids:
            stop = StopReason.STOP
            break
    if cancelled:
        output, stop = output[: len(output) // 2], StopReason.ABORT
    spans = (VersionSpan(version=0, start=0, stop=len(output)),)
    return CallResult(
        output=tuple(output),
        logprobs=(-1.0,) * len(output),
        versions=spans,
        stop=stop,
        started_s=at,
        finished_s=at,
    )


def babble(rng: random.Random) -> Callable[[Generate], tuple[int, ...]]:
    """Text that often follows the rules and often breaks them, stop tokens included."""
    structural = [*IDS.values()]
    likely = rng.choice([0.1, 0.4, 0.8])

    def say(generate: Generate) -> tuple[int, ...]:
        favourites = [*generate.stops.ids, *rng.sample(structural, k=min(4, len(structural)))]
        return tuple(
            rng.choice(favourites) if rng.random() < 0.2
            else rng.choice(structural) if rng.random() < likely
            else rng.randint(1, NUMBERS)
            for _ in range(rng.choice([3, 12, 60]))
        )  # fmt: skip

    return say


def scripted(lines: dict[tuple[tuple[int, ...], int], str]) -> Callable[[Generate], tuple[int, ...]]:
    return lambda generate: ids(lines[generate.path, generate.number])


PARTS = SearchTree(
    children=(
        SearchNode(move="3 4", message="3 4", trace="7", solution="7"),
        SearchNode(move="9 1", message="9 1", trace="8", solution="8"),
        SearchNode(move="20", message="20", trace="7 8 15", solution="15", needs=(0, 1)),
    ),
    solution="30",
    every=True,
    conclusion="7 8 15 30",
)
"""Three parts, of which the third needs the others, in words of this module."""
