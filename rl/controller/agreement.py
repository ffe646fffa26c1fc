"""Agreement of an engine with the learner on the log-probabilities of N tokens, told from rounding. No I/O.

    r_i = engine_i - expected_i       expected: by the learner, with the weights as the engine has them
    n_i = rounded_i - expected_i      rounded: by the learner, with the engine's number format in every layer
    u_i = expected_i - before_i       before: by the learner, with the weights before the last update

Two tests. The first finds weights that differ by more than rounding, whichever they are:

    rms(r) <= max(FLOOR, RATIO * rms(n))

The second finds weights that lack the last update, or a part of it, also far below rounding, since the noise
of N tokens averages out. It is the regression of r on u:

    missing = -sum(r u) / sum(u^2)                           0: all of the update is there; 1: none of it is
    error   = sqrt(sum((r + missing u)^2) / (N - 1) / sum(u^2))
    alarm when missing > LEAST_MISSING and missing > ERRORS * error and rms(u) > LEAST_UPDATE

False alarms. The first test raises one where the engine's kernels round RATIO times as much as the learner's
imitation of them; on the models tried they round about as much (LOG.md). The second, with errors that are
independent of the update: at most 1 in 10^8 for normal errors, and 1 in ERRORS^2 = 36 for any (Chebyshev).
Rounding of the expected values themselves shows in r and u alike, hence LEAST_UPDATE.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

FLOOR = {"float32": 3e-4, "bfloat16": 2e-2}
"""Root mean square that is rounding in any model, by the engine's number format (nats)."""
RATIO = 3.0
"""Largest rms of an engine's rounding, as a multiple of the learner's own on the same text."""
LEAST_MISSING = 0.25
ERRORS = 6.0
LEAST_UPDATE = 1e-4
"""Smallest rms of an update (nats) that is told from the rounding of the expected values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """The comparison of one engine's answers with the learner's."""

    rms: float
    """Root mean square of the differences (nats); NaN when one is."""
    limit: float
    """Largest rms that is rounding."""
    missing: float = 0.0
    """Share of the last update that the engine's weights lack."""
    error: float = 0.0
    """Standard error of `missing`."""
    lacks_update: bool = False
    """Whether `missing` is significant."""

    @property
    def holds(self) -> bool:
        """Whether all of it can be rounding."""
        return self.rms <= self.limit and not self.lacks_update  # False for NaN

    def __str__(self) -> str:
        text = f"log-probabilities that differ from the learner's by {self.rms:.2e} (rms; up to "
        text += f"{self.limit:.2e} is rounding)"
        if self.lacks_update:
            text += f" and lack {self.missing:.0%} of the last update (± {self.error:.0%})"
        return text


def rms(values: Sequence[float]) -> float:
    """sqrt(mean(values^2)); 0 for no values. Example: 3, 4 -> sqrt(12.5)"""
    return math.sqrt(sum(value * value for value in values) / len(values)) if values else 0.0


def rounding_limit(dtype: str, noise: Sequence[float]) -> float:
    """Largest rms that is rounding. `dtype`: of the engine; `noise`: [N] n_i, or () where the learner has the
    engine's number format itself.
    """
    return max(FLOOR[dtype], RATIO * rms(noise))


def compare(
    found: Sequence[float], expected: Sequence[float], before: Sequence[float], limit: float
) -> Agreement:
    """[N] log-probabilities each: the engine's, the learner's, and the learner's before the last update, ()
    where these are not known.
    """
    differences = [a - b for a, b in zip(found, expected, strict=True)]
    size = rms(differences)
    if not before or len(found) < 2:
        return Agreement(rms=size, limit=limit)
    update = [a - b for a, b in zip(expected, before, strict=True)]
    square = sum(value * value for value in update)
    if not rms(update) > LEAST_UPDATE or not math.isfinite(size):
        return Agreement(rms=size, limit=limit)
    missing = -sum(r * u for r, u in zip(differences, update, strict=True)) / square
    rest = sum((r + missing * u) ** 2 for r, u in zip(differences, update, strict=True))
    error = math.sqrt(rest / (len(found) - 1) / square)
    lacks = missing > LEAST_MISSING and missing > ERRORS * error
    return Agreement(rms=size, limit=limit, missing=missing, error=error, lacks_update=lacks)
