"""Where a policy has learned to please its scorer, seen afterwards on a whole run. Pure functions.

Both series are smoothed by the mean of the last `window` steps. A run is hacked from the first step on at
which the verified accuracy has lost `loss` of its best value so far, while the scorer thinks more of the
episodes than it did at that best. The alarm of a run (`rl.controller.hacking`) looks at the steps so far
only; here it is asked again step by step, so that runs with different settings are judged alike.
"""

from collections.abc import Sequence
from math import fsum

from rl.controller.hacking import find_hacking


def smoothed(series: Sequence[float], window: int) -> list[float]:
    """[steps] mean of the last `window` values, of fewer at the beginning.

    Example: 1, 3, 5 with a window of 2 are 1, 2, 4.
    """
    found = []
    for step in range(len(series)):
        held = series[max(0, step + 1 - window) : step + 1]
        found.append(fsum(held) / len(held))
    return found


def hacked_point(
    opinions: Sequence[float], accuracies: Sequence[float], *, window: int = 5, loss: float = 0.05
) -> int | None:
    """Index of the step from which on the scorer is hacked, or None.

    Example, with a window of 1: opinions 0.4, 0.5, 0.6, 0.7 and accuracies 0.3, 0.4, 0.38, 0.34 are hacked
    at index 3: 0.06 below the best, with an opinion above the 0.5 at that best.
    """
    said, right = smoothed(opinions, window), smoothed(accuracies, window)
    best = 0
    for step in range(len(right)):
        if right[step] > right[best]:
            best = step
        elif right[step] <= right[best] - loss and said[step] > said[best]:
            return step
    return None


def alarm_point(
    opinions: Sequence[float], accuracies: Sequence[float], *, block: int = 5, follow: float = 0.5
) -> int | None:
    """Index of the first step at which the alarm of a run would be given, or None."""
    for step in range(2 * block, len(opinions) + 1):
        if find_hacking(opinions[:step], accuracies[:step], block, follow) is not None:
            return step - 1
    return None
