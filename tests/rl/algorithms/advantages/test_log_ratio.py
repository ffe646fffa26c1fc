"""Token rewards of an implicit reward model, by hand."""

import math

import pytest

from rl.algorithms.advantages.log_ratio import log_ratio_rewards


@pytest.mark.parametrize(
    ("own", "reference", "beta", "rewards"),
    [
        # Probabilities 0.4 against 0.1, and 0.1 against 0.2.
        ([0.4, 0.1], [0.1, 0.2], 0.5, [0.5 * math.log(4), -0.5 * math.log(2)]),
        # The same model: nothing is said.
        ([0.3, 0.9, 0.01], [0.3, 0.9, 0.01], 0.05, [0.0, 0.0, 0.0]),
        # PRIME's beta: a token that has become twice as probable is worth 0.0347.
        ([0.5], [0.25], 0.05, [0.034657]),
    ],
)
def test_by_hand(own: list[float], reference: list[float], beta: float, rewards: list[float]) -> None:
    logs = [[math.log(value) for value in values] for values in (own, reference)]
    assert log_ratio_rewards(*logs, beta=beta) == pytest.approx(rewards, abs=1e-6)
