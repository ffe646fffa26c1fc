"""Corrections against numbers worked out in the comments."""

import math
from typing import Any

import pytest
import torch

from rl.algorithms.corrections.interpolate import interpolated_proximal
from rl.algorithms.corrections.levels import at_level, sum_of_sequence
from rl.algorithms.corrections.mask import mask
from rl.algorithms.corrections.off_policy_mask import off_policy_mask
from rl.algorithms.corrections.truncate import truncate


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Ratios 0.5 and 8 in sequence 0, between them 2, 0.4 and 1 in sequence 1, and 4 in sequence 2.
RATIOS = (0.5, 2, 8, 0.4, 1, 4)
SEQUENCES = torch.tensor([0, 1, 0, 1, 1, 2])
LOG_RATIO = column(*RATIOS).log()
ROOT = 0.8 ** (1 / 3)
"""Value of sequence 1: 2 * 0.4 * 1 = 0.8."""


@pytest.mark.parametrize(
    ("level", "ratios"),
    [
        ("token", RATIOS),
        ("sequence", (4, 0.8, 4, 0.8, 0.8, 4)),
        ("sequence_mean", (2, ROOT, 2, ROOT, ROOT, 4)),
    ],
)
def test_levels_by_hand(level: Any, ratios: tuple[float, ...]) -> None:
    found = at_level(LOG_RATIO.clone().requires_grad_(), SEQUENCES, level)
    assert found.exp().tolist() == pytest.approx(ratios)
    assert not found.requires_grad


def test_what_is_not_finite_counts_as_nothing_and_as_a_token() -> None:
    log_ratio = column(math.nan, 0.6, math.inf, -math.inf, 1.0)
    sequences = torch.tensor([0, 0, 0, 1, 1])
    assert at_level(log_ratio, sequences, "token").tolist() == [0, 0.6, 0, 0, 1]
    assert at_level(log_ratio, sequences, "sequence").tolist() == [0.6, 0.6, 0.6, 1, 1]
    # 0.6 over three tokens, 1 over two
    assert at_level(log_ratio, sequences, "sequence_mean").tolist() == pytest.approx([0.2] * 3 + [0.5] * 2)


def test_sums_of_sequences_by_hand() -> None:
    assert sum_of_sequence(column(1, 2, 4, 8), torch.tensor([1, 0, 1, 0])).tolist() == [5, 10, 5, 10]
    assert sum_of_sequence(column(1, 2), torch.tensor([3, 3])).tolist() == [3, 3]  # ids 0 to 2 are unused
    assert sum_of_sequence(column(), torch.tensor([], dtype=torch.int64)).tolist() == []


@pytest.mark.parametrize(
    ("cap", "level", "weights"),
    [
        (2.0, "token", (0.5, 2, 2, 0.4, 1, 2)),
        (3.0, "sequence", (3, 0.8, 3, 0.8, 0.8, 3)),
        (1.5, "sequence_mean", (1.5, ROOT, 1.5, ROOT, ROOT, 1.5)),
        (None, "token", RATIOS),  # decoupled PPO
    ],
)
def test_truncate_by_hand(cap: float | None, level: Any, weights: tuple[float, ...]) -> None:
    found = truncate(LOG_RATIO.clone().requires_grad_(), SEQUENCES, cap=cap, level=level)
    assert found.tolist() == pytest.approx(weights)
    assert not found.requires_grad


def test_an_overflowing_ratio_is_capped_or_masked() -> None:
    log_ratio, sequences = column(900.0, 900.0), torch.tensor([0, 0])
    assert truncate(log_ratio, sequences, cap=2.0, level="sequence").tolist() == [2, 2]
    found = mask(log_ratio, sequences, lower=0.0, upper=3.0, level="sequence", keep_ratio=True)
    assert found.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("bounds", "level", "keep_ratio", "weights"),
    [
        ((0.0, 3.0), "sequence", True, (0, 0.8, 0, 0.8, 0.8, 0)),  # masked importance sampling
        ((0.5, 5.0), "token", True, (0.5, 2, 0, 0, 1, 4)),  # IcePop
        ((0.5, 5.0), "token", False, (1, 1, 0, 0, 1, 1)),
        ((0.99, 1.01), "sequence_mean", False, (0, 0, 0, 0, 0, 0)),  # geometric rejection
        ((0.9, 2.5), "sequence_mean", False, (1, 1, 1, 1, 1, 0)),
    ],
)
def test_mask_by_hand(
    bounds: tuple[float, float], level: Any, keep_ratio: bool, weights: tuple[float, ...]
) -> None:
    lower, upper = bounds
    lower -= 1e-12  # exp(log(0.5)) need not be 0.5
    log_ratio = LOG_RATIO.clone().requires_grad_()
    found = mask(log_ratio, SEQUENCES, lower=lower, upper=upper, level=level, keep_ratio=keep_ratio)
    assert found.tolist() == pytest.approx(weights)
    assert not found.requires_grad


def test_the_bounds_of_a_mask_are_inside() -> None:
    log_ratio, sequences = column(0.0, 0.0), torch.tensor([0, 1])
    for lower, upper in ((1.0, 2.0), (0.5, 1.0)):
        found = mask(log_ratio, sequences, lower=lower, upper=upper, level="token", keep_ratio=True)
        assert found.tolist() == [1, 1]


def test_off_policy_mask_by_hand() -> None:
    # log behaviour - log proximal: sequence 0 has 1.0 and 0.2, mean 0.6; 1: 0.9 and 0.1, mean 0.5; 2: -3.
    log_ratio, sequences = column(-1.0, -0.9, -0.2, -0.1, 3.0), torch.tensor([0, 1, 0, 1, 2])
    bad = column(-1, -1, -1, -1, -1)
    assert off_policy_mask(log_ratio, sequences, bad, delta=0.55).tolist() == [0, 1, 0, 1, 1]
    assert off_policy_mask(log_ratio, sequences, bad, delta=0.4).tolist() == [0, 0, 0, 0, 1]
    assert off_policy_mask(log_ratio, sequences, -bad, delta=0.4).tolist() == [1, 1, 1, 1, 1]
    # The mean decides: 0.5 and -1 is a bad sequence 0, 0.5 and -0.5 is no bad sequence 1.
    mixed = column(0.5, 0.5, -1, -0.5, 0)
    assert off_policy_mask(log_ratio, sequences, mixed, delta=0.4).tolist() == [0, 1, 0, 1, 1]
    # A token that could not be scored is no evidence: 0.2 / 2 = 0.1.
    unknown = column(math.nan, -0.9, -0.2, -0.1, 3.0)
    assert off_policy_mask(unknown, sequences, bad, delta=0.4).tolist() == [1, 0, 1, 0, 1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_off_policy_mask_equals_that_of_trl() -> None:
    from trl import GRPOTrainer

    torch.manual_seed(0)
    size = (40, 5)
    lengths = torch.randint(1, 6, (40,))
    taken = torch.arange(5) < lengths[:, None]
    current = -2 * torch.rand(size, dtype=torch.float64)
    sampled = current + 0.5 * torch.randn(size, dtype=torch.float64)
    sampled[::7, 0] = math.nan
    advantages = torch.randn(40, 1, dtype=torch.float64)
    expected = GRPOTrainer.get_off_policy_mask(advantages, current, sampled, taken.double(), 0.1)
    sequences = torch.arange(40).repeat_interleave(lengths)
    found = off_policy_mask((current - sampled)[taken], sequences, advantages.expand(size)[taken], delta=0.1)
    assert 5 < int((expected == 0).sum()) < 20
    assert found.tolist() == expected[:, 0].repeat_interleave(lengths).tolist()


@pytest.mark.parametrize(
    ("version", "proximal", "expected"),
    [
        (0, 3, -1.4),  # alpha 3 / 4: -2 + 0.6
        (2, 3, -1.6),  # 1 / 2
        (3, 3, -2.0),  # 0: the behaviour policy is the proximal one
        (4, 3, -1.2),  # the current version sampled it: alpha 1
        (3, 1, -2.0),  # sampled after the proximal version: alpha -2 / 1, held at 0
        (2, 4, -1.2),  # the proximal version is the current one
    ],
)
def test_interpolated_proximal_by_hand(version: int, proximal: int, expected: float) -> None:
    current = column(-1.2).requires_grad_()  # 0.8 above the behaviour policy, and now at version 4
    found = interpolated_proximal(column(-2.0), current, torch.tensor([version]), 4, proximal)
    assert found.tolist() == pytest.approx([expected])
    assert not found.requires_grad


def test_tokens_of_one_sequence_may_be_of_several_versions() -> None:
    behaviour, current = column(-1.0, -1.0, -1.0), column(-2.0, -3.0, -0.5)
    found = interpolated_proximal(behaviour, current, torch.tensor([0, 1, 2]), 2, 1)
    # alpha 1 / 2, then 0, then 1 (version 2 is the current one)
    assert found.tolist() == pytest.approx([-1.5, -1.0, -0.5])
