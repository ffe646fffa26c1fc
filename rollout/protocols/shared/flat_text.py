"""Published flat texts: the calls of one text, and a cursor that protocols use to split it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data.episodes.trajectory import StopReason
from data.errors import TrajectoryError
from rollout.protocols.shared.tag_text import read_index, spell_index
from rollout.protocols.shared.tags import EOS


@dataclass(frozen=True, kw_only=True, slots=True)
class SaidCall:
    """One call of a transcript, as text."""

    path: tuple[int, ...]
    """Thread of the call: keys from the root."""
    says: str
    """Sampled text; `<eos>` is the end of the sequence."""
    sees: str | None = None
    """Whole context; compared with the protocol's when it is given."""
    stop: StopReason = StopReason.STOP
    scores: tuple[tuple[float, ...], ...] | None = None
    """The entry is no call but the scorer's answer to a question of the thread: the scores of each text."""


class TextCursor:
    """Position in a flat text; it only moves forward."""

    def __init__(self, text: str, tags: Sequence[str], *, exact: bool) -> None:
        """`exact`: white space around what is sampled belongs to it; else it stands for nothing."""
        self._text = text
        self._exact = exact
        self._at = 0
        self._tag = re.compile("|".join(map(re.escape, sorted(tags, key=len, reverse=True))))

    def until(self, *tags: str) -> tuple[str, str | None]:
        """-> (text up to and including the first of these tags, that tag), or (the rest, None)."""
        found = (match for match in self._tag.finditer(self._text, self._at) if match.group() in tags)
        match = next(found, None)
        start, self._at = self._at, len(self._text) if match is None else match.end()
        said = self._text[start : self._at]
        return said if self._exact else said.strip(), None if match is None else match.group()

    def ended(self, said: str) -> str:
        """A call that ends with the end of the sequence."""
        return f"{said}{EOS}" if self._exact else f"{said} {EOS}".strip()

    def skip(self, forced: str) -> None:
        """Pass over white space that the protocol forces, where it stands."""
        if self._text.startswith(forced, self._at):
            self._at += len(forced)

    def next_is(self, tag: str) -> bool:
        """Whether this tag comes next, apart from spaces."""
        return self._text.startswith(tag, self._past_spaces())

    def expect(self, tag: str) -> None:
        """Skip a tag. Raises TrajectoryError when it does not come next."""
        if not self.next_is(tag):
            raise self.error(f"{tag} should come next")
        self._at = self._past_spaces() + len(tag)

    def expect_index(self, number: str) -> None:
        """Skip a number and its colon. Raises TrajectoryError when they do not come next."""
        found = read_index(self._text[self._at :])
        if found is None or spell_index(found[0]) != number:
            raise self.error(f"thread {number}: should come next")
        self._at += found[1]

    def indexes_in(self, said: str, tags: Sequence[str]) -> list[str]:
        """The numbers that follow these tags in `said`, each once."""
        found = (
            read_index(said[match.end() :]) for match in self._tag.finditer(said) if match.group() in tags
        )
        return list(dict.fromkeys(spell_index(number[0]) for number in found if number is not None))

    def error(self, what: str) -> TrajectoryError:
        """The error for the current position, with line and column."""
        at = self._past_spaces()
        line = self._text.count("\n", 0, at) + 1
        column = at - (self._text.rfind("\n", 0, at) + 1) + 1
        rest = self._text[at : at + 40]
        found = f"found {rest!r}" if rest else "the text ends"
        return TrajectoryError(f"flat text, line {line}, column {column}: {what}; {found}")

    def _past_spaces(self) -> int:
        rest = self._text[self._at :]
        return self._at + len(rest) - len(rest.lstrip())
