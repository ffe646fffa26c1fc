"""Gambit (arXiv 2608.08020): a tournament among live traces, at a fixed capacity. Pure function.

    killed      traces below the absolute floor
    free places the best traces are branched into them, one each, and again from the best when more are free
    at capacity the `swaps` worst are exchanged for branches of the `swaps` best, where those are better

Example, capacity 4: 0.9, 0.05, 0.6, 0.3 with floor 0.1 kills the second and branches the first: 0, 0, 2, 3.
0.9, 0.2, 0.6, 0.3 with one swap: the second is exchanged for a branch of the first, 0, 0, 2, 3.
Equal ones all go on: 0.5, 0.5 with one swap are 0, 1.
"""

from collections.abc import Sequence

from rollout.protocols.selection.ranking import best


def tournament(values: Sequence[float], capacity: int, *, swaps: int, floor: float) -> list[int]:
    """Traces that go on, by index and as often as they do, ascending; at most `capacity`, () when all are
    killed.
    """
    alive = [index for index, value in enumerate(values) if value >= floor]
    if not alive:
        return []
    ranked = [alive[place] for place in best([values[index] for index in alive], len(alive))]
    if len(ranked) >= capacity:
        ranked = ranked[:capacity]
        # At most half: nobody is exchanged for a branch of one that is exchanged itself.
        pairs = zip(ranked[: min(swaps, len(ranked) // 2)], reversed(ranked), strict=False)
        swapped = sum(values[best_one] > values[worst] for best_one, worst in pairs)
        return sorted([*ranked[: len(ranked) - swapped], *ranked[:swapped]])
    free = capacity - len(ranked)
    return sorted([*ranked, *(ranked[place % len(ranked)] for place in range(free))])
