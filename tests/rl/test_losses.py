"""Losses, aggregation, advantages and schedules against numbers worked out in the comments."""

import copy
import math

import pytest
import torch

from rl.advantages.group import group_advantages, has_signal
from rl.demonstrations import pivot_weights
from rl.losses.aggregation import call_weights
from rl.losses.clipped import clipped_loss
from rl.losses.kl import k3
from rl.optimizer import MuonAdamW, warmup_linear


def loss_of(ratio: float, advantage: float, low: float = 0.2, high: float = 0.28) -> tuple[float, float]:
    """-> (loss, gradient with respect to the log-probability) of one token."""
    behaviour = torch.tensor([-1.0])
    logprobs = (behaviour + math.log(ratio)).requires_grad_()
    result = clipped_loss(
        logprobs, behaviour, torch.tensor([advantage]), torch.tensor([1.0]), clip_low=low, clip_high=high
    )
    result.loss.backward()
    assert logprobs.grad is not None
    return float(result.loss.detach()), float(logprobs.grad)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.1, 2.0, -2.2, -2.2),  # inside: -r A, gradient -r A
        (1.5, 2.0, -2.56, 0.0),  # too likely already: -(1.28) 2, no gradient
        (0.5, 2.0, -1.0, -1.0),  # min takes the unclipped 1.0 (clipped would be 1.6): still pulled up
        (0.5, -1.0, 0.8, 0.0),  # unlikely enough already: -(0.8)(-1)
        (1.5, -1.0, 1.5, 1.5),  # min takes -1.5 over -1.28: still pushed down
    ],
)
def test_clipped_loss_by_hand(ratio: float, advantage: float, loss: float, gradient: float) -> None:
    value, slope = loss_of(ratio, advantage)
    assert value == pytest.approx(loss, rel=1e-5)
    assert slope == pytest.approx(gradient, rel=1e-5, abs=1e-7)


def test_clipped_loss_sums_weights_and_reports_what_it_clipped() -> None:
    behaviour = torch.tensor([-1.0, -1.0, -1.0, -1.0])
    logprobs = behaviour + torch.tensor([1.0, 1.5, 0.5, 2.0]).log()
    result = clipped_loss(
        logprobs,
        behaviour,
        torch.tensor([1.0, 1.0, -1.0, -1.0]),
        torch.tensor([0.1, 0.2, 0.3, 0.4]),
        clip_low=0.2,
        clip_high=0.2,
    )
    # -(0.1 * 1 + 0.2 * 1.2 + 0.3 * -0.8 + 0.4 * -2)
    assert float(result.loss) == pytest.approx(0.7)
    assert float(result.clipped_share) == pytest.approx(0.5)
    assert float(result.max_ratio) == pytest.approx(2.0)
    # r - 1 - log r: 0, 0.5 - ln 1.5, -0.5 + ln 2, 1 - ln 2
    assert float(result.approximate_kl) == pytest.approx((0.5 - math.log(1.5) - 0.5 + 1.0) / 4, rel=1e-5)


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


def test_signal_needs_two_different_graded_rewards() -> None:
    assert has_signal([1.0, 0.0, None])
    assert not has_signal([1.0, None, 1.0])
    assert not has_signal([None, 0.3])


def test_warmup_linear_is_the_docstring() -> None:
    values = [warmup_linear(step, warmup=2, total=6, final=0.2) for step in range(7)]
    assert values == pytest.approx([0.5, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2])
    assert warmup_linear(0, warmup=0, total=4, final=1.0) == 1.0


def test_pivot_weights_is_the_docstring() -> None:
    output = [9, 1, 4, 36, 99, 10, 2, 2, 5, 3, 98, 9, 1, 4]  # 99 is ".", 98 is "found"
    weights = pivot_weights(output, pivots={99}, endings={98}, weight=3.0)
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
