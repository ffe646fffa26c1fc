"""SEAT's threshold, calibrated: the semantic entropy at which rounds may stop, from recorded ones.

SEAT (arXiv 2507.06829) stops when the entropy over a round's answers falls to a threshold that was computed
beforehand; how is not published in full. Here: the largest entropy seen on validation problems at which
stopping costs at most `tolerance` of accuracy. The protocol `rounds` takes it as `stop_entropy`.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """What a round of one problem came to."""

    entropy: float
    """Semantic entropy of its answers, in nats."""
    correct: bool
    """Whether the majority of its answers is right."""
    end: float = 0.0
    """Tick of the token clock at which the round ends."""


def stopped_at(rounds: Sequence[Round], threshold: float) -> int:
    """Index of the first round whose entropy is at most the threshold, else of the last."""
    return next((n for n, seen in enumerate(rounds) if seen.entropy <= threshold), len(rounds) - 1)


def calibrate(problems: Sequence[Sequence[Round]], tolerance: float = 0.01) -> float | None:
    """The largest entropy seen at which stopping loses at most `tolerance` of accuracy; None: there is none.

    Example: two problems with rounds (0.7 wrong, 0 right) and (0.7 right, 0 right): at 0.7 half is right, at
    0 all, as without stopping; so 0.
    """
    full = sum(rounds[-1].correct for rounds in problems)
    for threshold in sorted({seen.entropy for rounds in problems for seen in rounds}, reverse=True):
        kept = sum(rounds[stopped_at(rounds, threshold)].correct for rounds in problems)
        if full - kept <= tolerance * len(problems) + 1e-9:
            return threshold
    return None
