"""Token counts of a recipe's calls before there is a tokenizer (from scratch: one token per word)."""

from collections.abc import Mapping, Sequence
from typing import Any

from data.errors import ConfigError
from data.tasks.base import GeneratedTask
from data.text.piece import Piece
from data.text.prompt import Message, Prompt
from rl.config.protocol import ProtocolConfig
from rollout.protocols import build_protocol


class WordCounter:
    """Stands in for a tokenizer (`rollout.protocols.shared.base.Encoder`): right lengths, meaningless ids."""

    eos = 0
    ends = (0,)
    words_only = True
    opening = ()
    has_template = False

    def __init__(self, *, digits: bool) -> None:
        """`digits`: a number takes one token per digit, as with `model.digits`."""
        self._digits = digits

    def encode(self, text: str) -> tuple[int, ...]:
        """Return one id per token."""
        return (0,) * sum(len(word) if self._digits and word.isdigit() else 1 for word in text.split())

    def tag(self, tag: str) -> int | None:
        """Every tag is one token."""
        return 0

    def encode_pieces(self, pieces: Sequence[Piece], *, continues: bool = False) -> tuple[int, ...]:
        """Return one id per token."""
        return tuple(index for piece in pieces for index in self.encode(piece.text))

    def chat(self, messages: Sequence[Message], arguments: Mapping[str, Any] | None = None) -> list[Piece]:
        """Refuse: words have no chat template."""
        raise ConfigError(
            "protocol.framing: a model from random weights has no chat template\n  fix: leave framing out"
        )

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Never called: lengths need no decoding."""
        return [""] * len(ids)


def needed_length(task: GeneratedTask, protocol: ProtocolConfig, *, digits: bool) -> int:
    """Largest context plus output of the first call of a thread, in tokens; see the protocol's method."""
    counter = WordCounter(digits=digits)
    return build_protocol(protocol, counter).needed_length(Prompt(task.longest_prompt()))
