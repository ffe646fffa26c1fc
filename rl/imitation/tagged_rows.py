"""Rows whose contexts end in a forking tag, and the other pairings of their tags and traces.

In set supervised fine-tuning (arXiv 2510.05132) the model decides which tag learns which trace, by the
cheapest matching (`rl.algorithms.losses.matched`). Pure functions, no tensors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from data.forests.rows import Row


@dataclass(frozen=True, kw_only=True, slots=True)
class TaggedRow(Row):
    """A row: a context that ends in a tag, and a trace as its output."""

    episode: str
    """Id of the episode; its rows exchange their traces."""


def as_tagged(row: Row, episode: str) -> TaggedRow:
    """The same row with the id of its episode."""
    return TaggedRow(ids=row.ids, first=row.first, weights=row.weights, episode=episode)


def sets_of(rows: Sequence[TaggedRow]) -> list[list[TaggedRow]]:
    """[S][N] Rows grouped by episode, each group in the given order."""
    ordered = sorted(rows, key=lambda row: row.episode)
    return [list(group) for _, group in groupby(ordered, key=lambda row: row.episode)]


def paired(tag: TaggedRow, trace: TaggedRow) -> TaggedRow:
    """The context of one row with the output of another.

    Example: 5 6 <a> | 7 8 and 5 6 <b> | 9 -> 5 6 <a> | 9
    """
    ids = tag.ids[: tag.first] + trace.ids[trace.first :]
    return TaggedRow(ids=ids, first=tag.first, weights=trace.weights, episode=tag.episode)


def candidates(rows: Sequence[TaggedRow]) -> list[TaggedRow]:
    """[N * N] Every tag of a set paired with every trace of the set, tag by tag."""
    return [paired(tag, trace) for tag in rows for trace in rows]
