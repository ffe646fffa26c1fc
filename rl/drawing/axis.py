"""Round numbers for the axes of pictures."""

import math


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` + 1 round numbers within [low, high]: multiples of 1, 2 or 5 times a power of ten.

    Example: 0 to 230 with `most` 5 gives 0, 50, 100, 150, 200.
    """
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def tick_text(value: float) -> str:
    """A number of at most four digits: 0.25, 1500, 2.5e-07."""
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2g}"
    return f"{value:.4g}"
