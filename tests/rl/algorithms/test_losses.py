"""Losses, aggregation, advantages and schedules against numbers worked out in the comments."""

import copy
import math

import pytest
import torch

from rl.algorithms.advantages.group import group_advantages
from rl.algorithms.losses.aggregation import call_weights
from rl.algorithms.losses.kl import k3
from rl.imitation.demonstrations import pivot_weights, word_positions
from rl.learner.optimizer import MuonAdamW, warmup_linear


def test_k3_by_hand() -> None:
    values = k3(torch.tensor([-1.0, -2.0]), torch.tensor([-1.0, -1.0]))
    assert values.tolist() == pytest.approx([0.0, math.e - 2.0])


def test_aggregations_by_hand() -> None:
    trained = [[3, 1], [4]]  # two episodes: calls of 3 and 1 tokens, and one of 4
    assert call_weights(trained, "token") == [[1 / 8, 1 / 8], [1 / 8]]
    assert call_weights(trained, "sequence") == [[1 / 8, 1 / 8], [1 / 8]]
    assert call_weights([[3, 1], [8]], "sequence") == [[1 / 8, 1 / 8], [1 / 16]]
    assert call_weights(trained, "call") == [[1 / 12, 1 / 4], [1 / 8]]
    assert call_weights(trained, "constant", max_tokens=10) == [[1 / 20, 1 / 20], [1 / 20]]
    assert call_weights([[0], [2]], "call") == [[0.0], [1 / 4]]


def test_group_advantages_by_hand() -> None:
    # mean 0.5, unbiased variance (0.25 * 4) / 3, std 0.57735
    expected = 0.5 / (math.sqrt(1 / 3) + 1e-6)
    assert group_advantages([1.0, 0.0, 1.0, 0.0], "std") == pytest.approx(
        [expected, -expected, expected, -expected]
    )
    assert group_advantages([1.0, 0.0, -0.5, -0.5], "none") == pytest.approx([1.0, 0.0, -0.5, -0.5])
    assert group_advantages([1.0, None, 0.0], "none") == [0.5, 0.0, -0.5]
    assert group_advantages([1.0, None], "std") == [0.0, 0.0]


def test_warmup_linear_is_the_docstring() -> None:
    values = [warmup_linear(step, warmup=2, total=6, final=0.2) for step in range(7)]
    assert values == pytest.approx([0.5, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2])
    assert warmup_linear(0, warmup=0, total=4, final=1.0) == 1.0


def test_pivot_weights_is_the_docstring() -> None:
    pieces = ["9", "*", "4", "36", ".", "10", "/", "2", "5", "/", "found", "9", "*", "4"]
    assert word_positions([f" {piece}" for piece in pieces], {"."}) == {4}
    weights = pivot_weights(len(pieces), pivots={4}, ending=pieces.index("found"), weight=3.0)
    assert weights == (1, 1, 1, 1, 3, 1, 1, 1, 1, 3, 3, 3, 3, 3)


def test_muon_adamw_follows_its_schedule_and_its_checkpoint() -> None:
    def build() -> tuple[torch.nn.Module, MuonAdamW]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        return model, MuonAdamW(model.named_parameters(), lr=0.1, weight_decay=0.01)

    def train(model: torch.nn.Module, optimizer: MuonAdamW, steps: int) -> None:
        for step in range(steps):
            optimizer.zero_grad()
            (model(torch.full((3, 4), 1.0 + step)) ** 2).sum().backward()
            optimizer.step()

    model, optimizer = build()
    train(model, optimizer, 2)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = copy.deepcopy(optimizer.state_dict())
    train(model, optimizer, 2)
    other, resumed = build()
    other.load_state_dict(weights)
    resumed.load_state_dict(state)
    train(other, resumed, 2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    for group in resumed.param_groups:
        group["lr"] = 0.0
    before = [parameter.clone() for parameter in other.parameters()]
    train(other, resumed, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, other.parameters(), strict=True))
