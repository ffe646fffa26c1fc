"""The work of a group: pieces, each of which holds slots for a number of decode steps and begins when the
pieces it waits for have ended.

In a recorded group every call is a piece, so forks, joins, stragglers and a full engine have their real cost.
To simulate millions of calls a group is made coarser: a chain of pieces that together hold as many slots,
over the group's own clock, as its calls would.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from data.episodes.trajectory import Episode

COARSE_PIECES = 8
"""Number of pieces of a coarse group."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A call, or a stretch of a coarse group."""

    ticks: float
    """Duration in decode steps."""
    slots: float
    tokens: float
    """Sampled tokens, spread evenly over the decode steps."""
    after: tuple[int, ...] = ()
    """Earlier pieces of the group that must have ended."""


@dataclass(frozen=True, slots=True)
class GroupLoad:
    """All pieces of a group; an earlier one never waits for a later one."""

    pieces: tuple[Piece, ...]
    followers: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)
    """[P] for each piece, the pieces that wait for it."""

    def __post_init__(self) -> None:
        assert self.pieces, "a group without work would never end"
        followers: list[list[int]] = [[] for _ in self.pieces]
        for index, piece in enumerate(self.pieces):
            assert piece.ticks > 0 and all(0 <= other < index for other in piece.after)
            for other in piece.after:
                followers[other].append(index)
        object.__setattr__(self, "followers", tuple(map(tuple, followers)))

    @property
    def tokens(self) -> float:
        """Number of tokens that the group samples."""
        return sum(piece.tokens for piece in self.pieces)


def load_of_episodes(episodes: Sequence[Episode], *, call_ticks: float = 0.0) -> GroupLoad:
    """A recorded group, call by call; a call takes `call_ticks` decode steps more than it has tokens."""
    pieces: list[Piece] = []
    for episode in episodes:
        first = len(pieces)
        for call in episode.calls:
            after = tuple(sorted({first + edge.call for edge in call.after}))
            tokens = float(len(call.output))
            pieces.append(Piece(max(tokens + call_ticks, 1.0), 1.0, tokens, after))
    return GroupLoad(tuple(pieces) or (Piece(1.0, 1.0, 0.0),))


def load_of_lengths(episodes: Sequence[tuple[float, float]]) -> GroupLoad:
    """A group of episodes with (total, critical) tokens, each with total / critical live calls throughout."""
    return GroupLoad(tuple(Piece(critical, total / critical, total) for total, critical in episodes))


def coarse(load: GroupLoad, *, most_slots: float, pieces: int = COARSE_PIECES) -> GroupLoad:
    """The same tokens in few pieces. A piece that needs more than `most_slots` takes longer instead."""
    spans: list[tuple[float, float]] = []
    for piece in load.pieces:
        begin = max((spans[other][1] for other in piece.after), default=0.0)
        spans.append((begin, begin + piece.ticks))
    width = max(end for _, end in spans) / pieces
    held, tokens = [0.0] * pieces, [0.0] * pieces
    for piece, (begin, end) in zip(load.pieces, spans, strict=True):
        for index in range(min(int(begin / width), pieces - 1), pieces):
            overlap = min(end, (index + 1) * width) - max(begin, index * width)
            if overlap <= 0:
                break
            held[index] += piece.slots * overlap / width
            tokens[index] += piece.tokens * overlap / piece.ticks
    chain = []
    for index, (slots, sampled) in enumerate(zip(held, tokens, strict=True)):
        crowd = max(1.0, slots / most_slots)
        chain.append(Piece(width * crowd, slots / crowd, sampled, (index - 1,) if index else ()))
    return GroupLoad(tuple(chain))
