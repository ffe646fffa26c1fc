"""Progress of a thought, measured by answers that were forced out of it.

Source: MRT (arXiv 2503.07572). J_k is the share of right ones among the answers forced behind the first k
blocks of a thought, J_0 that of answers without any thought:

    progress of block k    r_k = J_k - J_(k-1)        they sum to J_n - J_0, however many blocks there are
    progress of a join     J behind the results - J before the fork
    regret                 sum_k t_k (J* - J_k) / sum_k t_k       t_k: tokens of block k; J*: what can be had

The number of graded answers may differ from place to place; a place without any has no value, and the block
behind it then counts from the place before. Regret is 0 for a thought that is sure of the answer after its
first block, and tells apart thoughts that end alike.

Example: J 0.25, 0.5, 0.5 and 1 after 0, 100, 200 and 400 tokens. The blocks' progress is 0.25, 0 and 0.5, in
all 0.75; regret with J* = 1 is (100 * 0.5 + 100 * 0.5 + 200 * 0) / 400 = 0.25.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rewards.process.aggregation import differences


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """Answers that were forced at one place."""

    call: int
    """Call of the root behind whose first tokens they stand."""
    stop: int
    """Number of those tokens."""
    right: int
    graded: int
    """Number of answers whose grade is known, at least 1."""

    @property
    def value(self) -> float:
        """J, the share of right ones among the graded answers."""
        return self.right / self.graded


def progress(places: Sequence[Answers]) -> list[float]:
    """[n - 1] what was gained from each place to the next."""
    values = [place.value for place in places]
    return differences(values[1:], values[0]) if values else []


def regret(places: Sequence[Answers], best: float = 1.0) -> float | None:
    """Mean of `best` minus J over the tokens of the thought; None for fewer than one block.

    The places are in order; tokens are counted from place to place in each call, and a place behind results
    has none of its own.
    """
    lost, tokens, before = 0.0, 0, (-1, 0)
    for place in places:
        size = place.stop - (before[1] if before[0] == place.call else 0)
        lost, tokens, before = lost + size * (best - place.value), tokens + size, (place.call, place.stop)
    return lost / tokens if tokens else None
