"""Positions of an episode's calls on the critical-path axis, for the picture and the text view.

The axis counts sampled tokens: a call starts when the last call it waited for has ended and takes as long as
it sampled tokens, so the axis ends at `critical_tokens`.
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from data.episodes.topology import token_clock
from data.episodes.trajectory import Call, Episode, Forced, Ref, ThreadOutcome
from data.text.printable import printable

Decode = Callable[[Sequence[int]], str]
"""Token ids to text, structural tokens included."""
LINE_BREAK = "↵"
"""Shown in place of a line break within the text."""
Split = Callable[[Sequence[int]], list[tuple[str, bool]]]


class Origin(StrEnum):
    """Origin of a token in a call."""

    FORCED = "forced"
    """Put there by the protocol: prompt and tags."""
    COPIED = "copied"
    """Sampled by an earlier call and referred to."""
    SAMPLED = "sampled"
    """Sampled by the call itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """One token, as text."""

    text: str
    gap: bool
    """Whether a space stands before the text; a line may be broken there."""
    origin: Origin
    thread: int
    """Index of the thread that sampled the token; the call's own thread if it was forced."""
    answer: bool = False
    """Whether the token is part of the episode's answer."""
    logprob: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One call with its position. `start` and `stop` count sampled tokens along the longest path to it."""

    call: Call
    start: int
    stop: int
    lane: int
    """Row of its thread: depth-first, children below their parent."""
    critical: bool
    """Whether the call is on the critical path."""
    caption: str
    faults: str
    """Violations and how the thread ended, if it did not return; "" when all is well."""
    pieces: tuple[Piece, ...]


def critical_path(episode: Episode) -> tuple[int, ...]:
    """Call indices of one longest path, first to last; among equals the one through the smallest indices.

    Empty for an episode without calls: its prompt did not fit the model.
    """
    times = token_clock(episode)
    if not times:
        return ()
    longest = max(stop for _, stop in times)
    path = [min(index for index, (_, stop) in enumerate(times) if stop == longest)]
    while True:
        start, _ = times[path[-1]]
        before = [edge.call for edge in episode.calls[path[-1]].after if times[edge.call][1] == start]
        if not before:
            return tuple(reversed(path))
        path.append(min(before))


def lanes(episode: Episode) -> list[int]:
    """Row of each thread: depth-first from the roots, siblings in the order they were opened."""
    order: list[int] = []
    pending = [thread.index for thread in reversed(episode.threads) if thread.parent is None]
    while pending:
        current = pending.pop()
        order.append(current)
        pending.extend(thread.index for thread in reversed(episode.threads) if thread.parent == current)
    rows = [0] * len(order)
    for row, thread in enumerate(order):
        rows[thread] = row
    return rows


def word_pieces(episode: Episode, decode: Decode) -> bool:
    """Whether tokens carry their own spaces (word pieces), or stand for whole words with spaces between."""
    ids = max((call.output for call in episode.calls), key=len, default=())
    return len(ids) > 1 and "".join(decode((token,)) for token in ids) == decode(ids)


def split_tokens(ids: Sequence[int], decode: Decode, *, pieces: bool) -> list[tuple[str, bool]]:
    """(printable text, whether a space stands before it) of each token; for `pieces` see `word_pieces`."""
    singles = [decode((token,)) for token in ids]
    return [(_shown(single), not pieces or single[:1].isspace()) for single in singles]


def _shown(text: str) -> str:
    return printable(text.strip(" ").replace("\n", LINE_BREAK))


def blocks(episode: Episode, decode: Decode) -> list[Block]:
    """One block for each call, in order."""
    times, rows, path = token_clock(episode), lanes(episode), set(critical_path(episode))
    split = partial(split_tokens, decode=decode, pieces=word_pieces(episode, decode))
    return [
        Block(
            call=call,
            start=times[call.index][0],
            stop=times[call.index][1],
            lane=rows[call.thread],
            critical=call.index in path,
            caption=_caption(call),
            faults=_faults(episode, call),
            pieces=tuple(_pieces(episode, call, split)),
        )
        for call in episode.calls
    ]


def _caption(call: Call) -> str:
    name = call.role if call.thread == 0 else f"{call.role} {call.thread}"
    return f"{name} · {len(call.output)} token" + ("" if len(call.output) == 1 else "s")


def _faults(episode: Episode, call: Call) -> str:
    kinds = [violation.kind.value for violation in episode.violations if violation.call == call.index]
    outcome = episode.threads[call.thread].outcome
    last = max(other.index for other in episode.calls if other.thread == call.thread)
    if call.index == last and outcome is not ThreadOutcome.RETURNED:
        kinds.append(outcome.value)
    return ", ".join(dict.fromkeys(kinds)).replace("_", " ")


def _pieces(episode: Episode, call: Call, split: Split) -> list[Piece]:
    """Context, then output. Context that the thread's previous call had too is an ellipsis."""
    pieces: list[Piece] = []
    repeated = _repeated(episode, call)
    if repeated:
        pieces.append(Piece(text="…", gap=True, origin=Origin.FORCED, thread=call.thread))
    seen = 0
    for span in call.context:
        ids = episode.resolve((span,))[max(0, repeated - seen) :]
        seen += len(span)
        origin = Origin.FORCED if isinstance(span, Forced) else Origin.COPIED
        thread = call.thread if isinstance(span, Forced) else episode.calls[span.call].thread
        pieces.extend(Piece(text=text, gap=gap, origin=origin, thread=thread) for text, gap in split(ids))
    answered = {
        position
        for span in episode.answer or ()
        if isinstance(span, Ref) and span.call == call.index
        for position in range(span.start, span.stop)
    }
    for position, (text, gap) in enumerate(split(call.output)):
        pieces.append(
            Piece(
                text=text,
                gap=gap,
                origin=Origin.SAMPLED,
                thread=call.thread,
                answer=position in answered,
                logprob=call.logprobs[position] if call.logprobs else None,
            )
        )
    return pieces


def _repeated(episode: Episode, call: Call) -> int:
    """Number of leading context ids that the thread's previous call had too."""
    earlier = [other for other in episode.calls[: call.index] if other.thread == call.thread]
    if not earlier:
        return 0
    count = 0
    for own, before in zip(episode.context_ids(call), episode.context_ids(earlier[-1]), strict=False):
        if own != before:
            break
        count += 1
    return count


def text_columns(text: str) -> int:
    """Columns that a text takes in a monospaced font: East Asian wide characters take two, accents none."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)


def wrap(pieces: Sequence[Piece], columns: int) -> list[list[Piece]]:
    """Lines of at most `columns` columns, broken at spaces; a longer word gets its own line."""
    words: list[list[Piece]] = []
    for piece in pieces:
        if piece.gap or not words:
            words.append([])
        words[-1].append(piece)
    lines: list[list[Piece]] = []
    used = columns
    for word in words:
        length = sum(text_columns(piece.text) for piece in word)
        if not lines or used + 1 + length > columns:
            lines.append([])
            used = -1
        lines[-1].extend(word)
        used += 1 + length
    return lines
