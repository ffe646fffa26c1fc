"""Cross-entropy of an implicit reward model against outcomes, by hand."""

import math

import pytest
import torch

from rl.algorithms.losses.implicit_outcome import implicit_outcome_loss


@pytest.mark.parametrize(
    ("sums", "outcomes", "loss"),
    [
        # s = 3/4, right.
        ([math.log(3)], [1.0], math.log(4 / 3)),
        # The same sum twice, right and wrong: the mean of log 4/3 and log 4.
        ([math.log(3), math.log(3)], [1.0, 0.0], (math.log(4 / 3) + math.log(4)) / 2),
        # Nothing said yet: log 2, whatever the outcomes are.
        ([0.0, 0.0, 0.0], [1.0, 0.0, 0.0], math.log(2)),
    ],
)
def test_by_hand(sums: list[float], outcomes: list[float], loss: float) -> None:
    found = implicit_outcome_loss(torch.tensor(sums), torch.tensor(outcomes))
    assert float(found) == pytest.approx(loss, abs=1e-6)


def test_the_slope_of_a_sum_is_the_error_over_the_number_of_episodes() -> None:
    """(s - o) / E: with s = 3/4 and 1/2, right and wrong, -1/8 and 1/4."""
    sums = torch.tensor([math.log(3), 0.0], requires_grad=True)
    implicit_outcome_loss(sums, torch.tensor([1.0, 0.0])).backward()
    assert sums.grad is not None
    assert sums.grad.tolist() == pytest.approx([-0.125, 0.25])
