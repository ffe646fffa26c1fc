"""Rows whose contexts end in a forking tag, and what they would be if tags and traces were paired otherwise.

Set supervised fine-tuning (arXiv 2510.05132) does not say which tag learns which trace: the model does, by
the cheapest matching (`rl.algorithms.losses.matched`). Pure, no tensors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from data.forests.rows import Row


@dataclass(frozen=True, kw_only=True, slots=True)
class TaggedRow(Row):
    """A context that ends in a tag, and a trace."""

    episode: str
    """Rows of one episode exchange their traces; its id."""


def as_tagged(row: Row, episode: str) -> TaggedRow:
    """The same row, with the episode it is of."""
    return TaggedRow(ids=row.ids, first=row.first, weights=row.weights, episode=episode)


def sets_of(rows: Sequence[TaggedRow]) -> list[list[TaggedRow]]:
    """[S][N] the rows by episode, each set in the given order."""
    ordered = sorted(rows, key=lambda row: row.episode)
    return [list(group) for _, group in groupby(ordered, key=lambda row: row.episode)]


def paired(tag: TaggedRow, trace: TaggedRow) -> TaggedRow:
    """One row's context with another's words.

    Example: 5 6 <a> | 7 8 and 5 6 <b> | 9 -> 5 6 <a> | 9
    """
    ids = tag.ids[: tag.first] + trace.ids[trace.first :]
    return TaggedRow(ids=ids, first=tag.first, weights=trace.weights, episode=tag.episode)


def candidates(rows: Sequence[TaggedRow]) -> list[TaggedRow]:
    """[N * N] every tag of a set with every trace of it, tag by tag."""
    return [paired(tag, trace) for tag in rows for trace in rows]
