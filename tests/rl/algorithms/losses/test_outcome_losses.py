"""Losses of one reward for a whole answer, by hand."""

import math

import pytest
import torch

from rl.algorithms.losses.binary import binary_loss
from rl.algorithms.losses.bradley_terry import bradley_terry_loss
from rl.algorithms.losses.soft_labels import soft_label_loss

LOG3 = math.log(3.0)


@pytest.mark.parametrize(
    ("margin", "center", "loss"),
    [(0.0, 0.0, math.log(4 / 3)), (LOG3, 0.0, math.log(2)), (0.0, 0.1, math.log(4 / 3) + 0.1 * LOG3**2)],
)
def test_pairs_by_hand(margin: float, center: float, loss: float) -> None:
    """Rewards log 3 and 0: sigmoid of their difference is 3/4, and 1/2 behind a margin of log 3."""
    one, zero = torch.tensor([LOG3]), torch.tensor([0.0])
    found = bradley_terry_loss(one, zero, torch.tensor([margin]), center=center)
    assert found.tolist() == pytest.approx([loss])


def test_only_differences_count_without_a_centre() -> None:
    rewards, none = torch.tensor([2.0, -1.0, 0.5]), torch.zeros(2)
    first = bradley_terry_loss(rewards[:2], rewards[1:], none)
    assert torch.allclose(bradley_terry_loss(rewards[:2] + 7, rewards[1:] + 7, none), first)
    assert not torch.allclose(bradley_terry_loss(rewards[:2] + 7, rewards[1:] + 7, none, center=0.1), first)


@pytest.mark.parametrize(
    ("label", "loss"),
    [(1.0, math.log(4 / 3)), (0.0, math.log(4)), (0.5, (math.log(4 / 3) + math.log(4)) / 2)],
)
def test_outcomes_by_hand(label: float, loss: float) -> None:
    """p = 3/4."""
    assert binary_loss(torch.tensor([LOG3]), torch.tensor([label])).tolist() == pytest.approx([loss])


def test_one_reward_says_what_two_logits_say() -> None:
    rewards, labels = torch.randn(50, generator=torch.Generator().manual_seed(0)), torch.rand(50)
    two = torch.stack([torch.zeros(50), rewards], dim=-1)
    assert torch.allclose(binary_loss(rewards, labels), soft_label_loss(two, labels), atol=1e-6)
