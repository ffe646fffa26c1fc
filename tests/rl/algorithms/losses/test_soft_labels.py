"""Cross-entropy against soft labels."""

import math

import pytest
import torch

from rl.algorithms.losses.soft_labels import soft_label_loss


@pytest.mark.parametrize(
    ("label", "loss"),
    [(1.0, math.log(4 / 3)), (0.0, math.log(4)), (0.5, (math.log(4 / 3) + math.log(4)) / 2)],
)
def test_by_hand(label: float, loss: float) -> None:
    """p(right) = 3/4."""
    found = soft_label_loss(torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([label]))
    assert found.tolist() == pytest.approx([loss])


def test_hard_labels_are_those_of_classification() -> None:
    logits, labels = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 2
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    assert torch.allclose(soft_label_loss(logits, labels.float()), expected, atol=1e-6)
