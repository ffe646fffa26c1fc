"""Drive a protocol without an engine: a script speaks for the model, a test picks who comes back first."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from data.episodes.trajectory import Episode
from data.tasks.search_tree import SearchNode, SearchTree
from data.text.piece import Piece
from data.text.prompt import Message, Prompt
from rollout import offline
from rollout.commands import Generate
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
    protocol: ThinkingProtocol, say: offline.Say, *, prompt: Prompt = PROMPT, **options: Any
) -> Episode:
    """An episode, of this module's prompt unless told otherwise; options as in `rollout.offline.drive`."""
    return offline.drive(protocol, prompt, say, **options)


def babble(rng: random.Random) -> offline.Say:
    """Random words of this module."""
    return offline.babble(rng, [*IDS.values()], range(1, NUMBERS + 1))


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
