"""Forests of rows: every distinct prefix once, in depth-first order. Pure Python, no tensors.

A causal model computes the same for equal prefixes, so rows that begin alike share those tokens: prompts
within a group, forks within an episode, joined contexts as far as they coincide. In depth-first order, with
`end[i]` one past the last descendant of i, token q may attend to key k exactly when

    k <= q and end[k] > q

and its position is its depth. (TRL's TreeRow and AReaL's tree training share prefixes too; a mask of
one integer per token is this project's.) What is trained is a *label*: the log-probability of a token at the
node in front of it. A branching node has several labels, and equal tokens of several rows are several
labels of one node, since each row has its own weight, advantage and behaviour log-probability.

Example: rows 5 6 7 and 5 6 8 9 with context 5 6
    ids        5  6  7  8  9
    positions  0  1  2  2  3
    parents   -1  0  1  1  3
    end        5  5  3  5  5
    labels     (node 1, target 7), (node 1, target 8), (node 3, target 9)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from data.forests.rows import Row


@dataclass(frozen=True, kw_only=True, slots=True)
class Targets:
    """Labels as columns of length L: one entry for each trained token of each row."""

    nodes: list[int]
    """Index of the token in front of it, which predicts it; of a `TargetRow`, its own."""
    targets: list[int]
    """Id of the trained token."""
    rows: list[int]
    """Index of its row among those that the forest was built from."""
    outputs: list[int]
    """Its index in the output of that row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forest:
    """Prefix tries of some rows: T unique tokens in depth-first order, and their labels."""

    ids: list[int]
    """[T] token ids, depth-first."""
    positions: list[int]
    """[T] depth, 0 at a root."""
    parents: list[int]
    """[T] index of the token in front of it; -1 at a root."""
    end: list[int]
    """[T] one past its last descendant."""
    labels: Targets
    row_tokens: int
    """Tokens of all its rows; `row_tokens / len(ids)` is the saving by sharing."""

    def __len__(self) -> int:
        return len(self.ids)

    def ancestors(self, token: int) -> list[int]:
        """[position] indices of the tokens that a token attends to beside itself, from the root down."""
        path: list[int] = []
        while (token := self.parents[token]) >= 0:
            path.append(token)
        return path[::-1]


def build_forest(rows: Sequence[Row], *, share: bool = True) -> Forest:
    """The forest of some rows. Their order changes nothing but `labels.rows`.

    With `share=False` every row is a tree of its own (plain packed rows, the baseline in benchmarks).
    """
    ids: list[int] = []
    positions: list[int] = []
    parents: list[int] = []
    end: list[int] = []
    labels = Targets(nodes=[], targets=[], rows=[], outputs=[])
    path: list[int] = []
    before: tuple[int, ...] = ()
    for index in depth_first(rows):
        row = rows[index]
        shared = common_prefix(before, row.ids) if share else 0
        for token in path[shared:]:
            end[token] = len(ids)
        del path[shared:]
        for position in range(shared, len(row)):
            parents.append(path[-1] if path else -1)
            path.append(len(ids))
            positions.append(position)
            ids.append(row.ids[position])
            end.append(-1)
        for place, weight in enumerate(row.weights):
            if weight > 0:
                labels.nodes.append(path[row.first + place - row.label_offset])
                labels.targets.append(row.ids[row.first + place])
                labels.rows.append(index)
                labels.outputs.append(place)
        before = row.ids
    for token in path:
        end[token] = len(ids)
    return Forest(
        ids=ids,
        positions=positions,
        parents=parents,
        end=end,
        labels=labels,
        row_tokens=sum(map(len, rows)),
    )


def depth_first(rows: Sequence[Row]) -> list[int]:
    """Order of the rows in which neighbours share the longest prefixes: the trie's leaves, left to right."""
    return sorted(range(len(rows)), key=lambda index: rows[index].ids)


def unique_tokens(rows: Sequence[Row]) -> int:
    """Number of tokens in the forest of some rows, without building it."""
    order = [rows[index].ids for index in depth_first(rows)]
    return sum(map(len, order)) - sum(common_prefix(a, b) for a, b in pairwise(order))


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Number of leading ids that two rows share.

    Example: (5, 6, 7), (5, 6, 8, 9) -> 2
    """
    size = min(len(left), len(right))
    if left[:size] == right[:size]:
        return size
    return next(place for place in range(size) if left[place] != right[place])


def pairs(forest: Forest) -> int:
    """Query-key pairs of a forest's attention: each token attends to itself and its ancestors."""
    return sum(forest.positions) + len(forest)
