"""A curve as one line of block characters, for terminals."""

import math
from collections.abc import Sequence
from itertools import pairwise

BLOCKS = "▁▂▃▄▅▆▇█"
"""Heights from lowest to highest."""


def sparkline(values: Sequence[float], width: int) -> str:
    """At most `width` characters, each the mean of as many values in a row; blank where none is finite.

    The lowest mean is the lowest block, the highest the highest; equal means are all of middle height.

    Examples: [0, 1, 2, 7] is "▁▂▃█"; [0, 2, 6, 8] in 2 characters (means 1 and 7) is "▁█"; [5, 5] is "▄▄".
    """
    shown = min(width, len(values))
    bounds = [round(place * len(values) / shown) for place in range(shown + 1)] if shown > 0 else [0]
    means = [_mean(values[first:stop]) for first, stop in pairwise(bounds)]
    known = [mean for mean in means if mean is not None]
    lowest, highest = min(known, default=0.0), max(known, default=0.0)
    return "".join(" " if mean is None else _block(mean, lowest, highest) for mean in means)


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _block(value: float, lowest: float, highest: float) -> str:
    if highest == lowest:
        return BLOCKS[len(BLOCKS) // 2 - 1]
    return BLOCKS[round((value - lowest) / (highest - lowest) * (len(BLOCKS) - 1))]
