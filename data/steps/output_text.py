"""Text of a call's output, and which tokens spell which characters."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from data.episodes.trajectory import Call, StopReason
from data.steps.step import Range, Step, StepKind


class Speller(Protocol):
    """What cutting needs of a tokenizer (`data.text.codec.Codec` has it)."""

    @property
    def ends(self) -> tuple[int, ...]:
        """Every id that ends a call."""
        ...

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """[T] what each id adds to the text."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputText:
    """An output without the id that ended it."""

    call: int
    text: str
    ends: tuple[int, ...]
    """[T] number of characters up to and with each token; ascending."""
    whole: bool
    """Whether the call ended by itself."""

    def steps(self, ranges: Sequence[Range], kind: StepKind) -> list[Step]:
        """The tokens of ascending ranges of characters.

        A token that two ranges share belongs to the first. A range that is left without a token of its own
        has no place, and its text is added to the step before it.
        """
        steps: list[Step] = []
        for begin, end in ranges:
            text = self.text[begin:end].strip()
            if not text:
                continue
            start, stop = self._tokens(begin, end)
            if steps and start < steps[-1].stop:
                start = steps[-1].stop
            if start >= stop:
                last = steps.pop()
                start, text = last.start, f"{last.text}{text}"
            steps.append(Step(call=self.call, start=start, stop=stop, text=text, kind=kind))
        if steps and not self.whole and not self.text[ranges[-1][1] :].strip():
            steps[-1] = replace(steps[-1], cut_off=True)
        return steps

    def _tokens(self, begin: int, end: int) -> Range:
        """The tokens that spell these characters, those included that begin one which a later token ends."""
        begin += len(self.text[begin:end]) - len(self.text[begin:end].lstrip())
        end -= len(self.text[begin:end]) - len(self.text[begin:end].rstrip())
        # Tokens that end at `begin` spell what stands before it, unless they add nothing to the text yet.
        first = bisect_right(self.ends, begin)
        while first > 0 and self.ends[first - 1] == begin and self._adds_nothing(first - 1):
            first -= 1
        return first, bisect_left(self.ends, end) + 1

    def _adds_nothing(self, token: int) -> bool:
        return self.ends[token] == (self.ends[token - 1] if token else 0)


def output_text(call: Call, speller: Speller) -> OutputText:
    """The text of a call's output, read once."""
    output = call.output
    if output and output[-1] in speller.ends:
        output = output[:-1]
    ends: list[int] = []
    pieces = speller.pieces(output)
    for piece in pieces:
        ends.append((ends[-1] if ends else 0) + len(piece))
    return OutputText(
        call=call.index, text="".join(pieces), ends=tuple(ends), whole=call.stop is StopReason.STOP
    )
