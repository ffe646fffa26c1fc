"""ETS (arXiv 2502.13575): which leaves of a search are kept, so that they are good, share their beginnings
(and with them the engine's keys and values) and still differ.

    maximise  sum_i O_i x_i  -  cost (sum_j y_j + sum_i x_i) / (M + N)  +  coverage / K sum_k c_k

    x_i  leaf i is kept, at least one          O_i  REBASE's share of leaf i, n_i / W
    y_j  branch j has a kept leaf below it     M branches, N leaves
    c_k  cluster k has a kept leaf             K clusters of leaves whose last steps mean the same

The paper solves it as an integer program and takes a sentence embedding for what steps mean. Here up to EXACT
leaves are solved by looking at every set; more by adding, dropping and exchanging leaves until nothing
improves. Two
last steps mean the same when the bags of their tokens do: average linkage at cosine distance `distance`.

Example: leaves a, b under branch p and c under q, O = 0.5, 0.375, 0.125, cost 1, coverage 0; M + N = 5.
{a} is worth 0.5 - 2/5 = 0.1; {a, b} 0.875 - 3/5 = 0.275; {a, b, c} 1 - 5/5 = 0: a and b are kept. With
coverage 1.4 and clusters {a, b}, {c}: {a, b} 0.275 + 0.7 = 0.975; {a, c} 0.625 - 4/5 + 1.4 = 1.225;
{a, b, c} 1.4: all are kept.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

Worth = Callable[[Sequence[int]], float]
"""Value of a set of leaves, by index."""
EXACT = 12
"""Leaves up to which every set is looked at."""
_EQUAL = 1e-12
"""An improvement below this is a rounding error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaf:
    """A leaf of the search, as the objective sees it."""

    share: float
    """O_i: its part of all continuations, in [0, 1]."""
    branches: frozenset[int]
    """Nodes of the tree above it."""
    cluster: int
    """Number of the cluster of its last step."""


def objective(leaves: Sequence[Leaf], kept: Sequence[int], *, cost: float, coverage: float) -> float:
    """The sum above for the kept leaves, by index; at least one."""
    assert kept, "at least one leaf is kept"
    chosen = [leaves[index] for index in kept]
    branches = len(frozenset().union(*(leaf.branches for leaf in leaves)))
    alive = len(frozenset().union(*(leaf.branches for leaf in chosen)))
    clusters = len({leaf.cluster for leaf in leaves})
    return (
        math.fsum(leaf.share for leaf in chosen)
        - cost * (alive + len(chosen)) / (branches + len(leaves))
        + coverage * len({leaf.cluster for leaf in chosen}) / clusters
    )


def choose(leaves: Sequence[Leaf], *, cost: float, coverage: float) -> list[int]:
    """Indices of the leaves to keep, ascending; of equally good sets the first by size, then by indices."""
    if not leaves:
        return []

    def worth(kept: Sequence[int]) -> float:
        return objective(leaves, kept, cost=cost, coverage=coverage)

    if len(leaves) <= EXACT:
        places = range(len(leaves))
        sets = (kept for size in range(1, len(leaves) + 1) for kept in combinations(places, size))
        return list(_first_best(sets, worth))
    starts = [tuple(range(len(leaves))), *((index,) for index in range(len(leaves)))]
    return list(_first_best((_climb(start, len(leaves), worth) for start in starts), worth))


def clusters(steps: Sequence[Sequence[int]], distance: float) -> list[int]:
    """[n] number of the cluster of each step, by average linkage of the bags of its ids at this cosine
    distance. Numbers are in the order of first appearance.
    """
    groups = [[index] for index in range(len(steps))]
    apart = [[_cosine_distance(one, other) for other in steps] for one in steps]
    while len(groups) > 1:
        linkage, left, right = min(
            (math.fsum(apart[i][j] for i in a for j in b) / (len(a) * len(b)), x, y)
            for (x, a), (y, b) in combinations(list(enumerate(groups)), 2)
        )
        if linkage > distance:
            break
        groups[left] += groups.pop(right)
    number = {index: place for place, group in enumerate(sorted(groups, key=min)) for index in group}
    return [number[index] for index in range(len(steps))]


def _first_best(sets: Iterator[tuple[int, ...]], worth: Worth) -> tuple[int, ...]:
    found: tuple[int, ...] = ()
    most = -math.inf
    for kept in sets:
        value = worth(kept)
        if value > most + _EQUAL:
            found, most = kept, value
    return found


def _climb(kept: tuple[int, ...], size: int, worth: Worth) -> tuple[int, ...]:
    """The best set that one change after the other leads to."""
    while True:
        without = [tuple(each for each in kept if each != index) for index in kept]
        others = [index for index in range(size) if index not in kept]
        grown = [tuple(sorted((*kept, index))) for index in others]
        swapped = [tuple(sorted((*rest, index))) for rest in without for index in others]
        better = _first_best(iter([kept, *filter(None, without), *grown, *swapped]), worth)
        if better == kept:
            return kept
        kept = better


def _cosine_distance(one: Sequence[int], other: Sequence[int]) -> float:
    """1 - cosine of the angle between two bags of ids; 0 for two empty ones, 1 for one."""
    left, right = Counter(one), Counter(other)
    if not left or not right:
        return 0.0 if not left and not right else 1.0
    dot = sum(count * right[index] for index, count in left.items())
    norms = sum(c * c for c in left.values()) * sum(c * c for c in right.values())
    return 1.0 - dot / math.sqrt(norms)
