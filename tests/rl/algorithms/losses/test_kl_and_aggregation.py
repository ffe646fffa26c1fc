"""Estimators of the divergence and denominators against numbers worked out in the comments."""

import math
from typing import Any

import pytest
import torch

from rl.algorithms.losses.aggregation import call_weights
from rl.algorithms.losses.kl import KL, k1, k2, k3


def test_estimators_by_hand() -> None:
    logprobs = torch.tensor([-1.0, -2.0, -1.0], dtype=torch.float64)
    reference = torch.tensor([-1.0, -1.0, -1.5], dtype=torch.float64)
    # policy - reference: 0, -1, 0.5
    assert k1(logprobs, reference).tolist() == [0.0, -1.0, 0.5]
    assert k2(logprobs, reference).tolist() == [0.0, 0.5, 0.125]
    assert k3(logprobs, reference).tolist() == pytest.approx([0.0, math.e - 2.0, math.exp(-0.5) - 0.5])
    assert list(KL.items()) == [("k1", k1), ("k2", k2), ("k3", k3)]


@pytest.mark.parametrize(
    ("name", "gradients"),
    [
        ("k1", [1.0, 1.0, 1.0]),
        ("k2", [0.0, -1.0, 0.5]),  # policy - reference
        ("k3", [0.0, 1.0 - math.e, 1.0 - math.exp(-0.5)]),  # 1 - exp(d)
    ],
)
def test_gradients_of_estimators_by_hand(name: str, gradients: list[float]) -> None:
    logprobs = torch.tensor([-1.0, -2.0, -1.0], dtype=torch.float64, requires_grad=True)
    KL[name](logprobs, torch.tensor([-1.0, -1.0, -1.5], dtype=torch.float64)).sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx(gradients)


def test_what_the_estimators_estimate() -> None:
    """Means over a vocabulary of three, exactly: each word counts with its probability."""
    logits = torch.tensor([0.3, -0.4, 0.9], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([-0.2, 0.5, 0.1], dtype=torch.float64).log_softmax(0)

    def gradient_of(scalar: torch.Tensor) -> list[float]:
        found: list[float] = torch.autograd.grad(scalar, logits, retain_graph=True)[0].tolist()
        return found

    logprobs = logits.log_softmax(0)
    forward = (logprobs.exp() * (logprobs - reference)).sum()  # KL(policy || reference)
    backward = (reference.exp() * (reference - logprobs)).sum()  # KL(reference || policy)
    weights = logprobs.detach().exp()
    means = {name: (weights * KL[name](logprobs, reference)).sum() for name in KL}
    values = {name: float(mean.detach()) for name, mean in means.items()}
    expected = float(forward.detach())
    assert values["k1"] == pytest.approx(expected)
    assert values["k3"] == pytest.approx(expected)
    assert values["k2"] != pytest.approx(expected, rel=1e-2)
    slopes = {name: gradient_of(mean) for name, mean in means.items()}
    assert slopes["k1"] == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)
    assert slopes["k2"] == pytest.approx(gradient_of(forward))
    assert slopes["k3"] == pytest.approx(gradient_of(backward))


@pytest.mark.parametrize(
    ("trained", "groups", "weights"),
    [
        # Two groups; 4 trained tokens in the first, 2 in the second.
        ([[3], [1], [2]], [0, 0, 1], [[1 / 8], [1 / 8], [1 / 4]]),
        # Calls of an episode alike, groups in any order: 3 + 1 + 4 = 8 tokens of group 7, 2 of group 2.
        ([[3, 1], [2], [4]], [7, 2, 7], [[1 / 16, 1 / 16], [1 / 4], [1 / 16]]),
        # A group without a trained token still counts.
        ([[0], [2]], [0, 1], [[0.0], [1 / 4]]),
        ([[5]], [0], [[1 / 5]]),
    ],
)
def test_prompt_aggregation_by_hand(
    trained: list[list[int]], groups: list[int], weights: list[list[float]]
) -> None:
    assert call_weights(trained, "prompt", groups=groups) == weights


def test_prompt_aggregation_needs_groups() -> None:
    with pytest.raises(AssertionError):
        call_weights([[1]], "prompt")


@pytest.mark.parametrize(
    ("aggregation", "weights"),
    [
        ("token", [[1 / 10, 1 / 10], [1 / 10]]),
        ("sequence", [[1 / 8, 1 / 8], [1 / 12]]),
        ("call", [[1 / 12, 1 / 4], [1 / 12]]),
        ("constant", [[1 / 40, 1 / 40], [1 / 40]]),
    ],
)
def test_other_aggregations_do_not_look_at_groups(aggregation: Any, weights: list[list[float]]) -> None:
    """Two episodes: calls of 3 and 1 tokens, and one of 6."""
    trained = [[3, 1], [6]]
    assert call_weights(trained, aggregation, max_tokens=20) == weights
    assert call_weights(trained, aggregation, max_tokens=20, groups=[0, 0]) == weights
