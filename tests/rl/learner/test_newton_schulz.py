"""The iteration of Muon in float32: by hand, beside torch's in bfloat16, and inside the optimizer."""

import pytest
import torch
from torch.optim import _muon

from rl.learner.newton_schulz import newton_schulz
from rl.learner.optimizer import MuonAdamW

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


@pytest.mark.parametrize(
    ("gradient", "expected"),
    [
        # |(3, 4)| = 5, so A = 1 and one step multiplies by a + b + c = 0.701: 0.701 * (0.6, 0.8).
        ([[3.0, 4.0]], [[0.4206, 0.5608]]),
        ([[3.0], [4.0]], [[0.4206], [0.5608]]),
        # Singular values s = 0.6 and 0.8 become a s + b s^3 + c s^5: 1.193270 and 0.976482.
        ([[3.0, 0.0], [0.0, 4.0]], [[1.193270, 0.0], [0.0, 0.976482]]),
    ],
)
def test_one_step_by_hand(gradient: list[list[float]], expected: list[list[float]]) -> None:
    found = newton_schulz(torch.tensor(gradient), COEFFICIENTS, 1, 1e-7)
    assert torch.allclose(found, torch.tensor(expected), atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 16), (8, 32), (32, 8)])
def test_it_is_torchs_up_to_bfloat16(shape: tuple[int, int]) -> None:
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = newton_schulz(gradient, COEFFICIENTS, 5, 1e-7)
    torchs = _muon._zeropower_via_newtonschulz(gradient, COEFFICIENTS, 5, 1e-7).float()
    assert found.dtype == torch.float32
    assert float((found - torchs).abs().max()) < 0.03
    assert torch.linalg.svdvals(found).min() > 0.3 and torch.linalg.svdvals(found).max() < 1.3


def test_a_step_in_float32_leaves_torchs_own_function_in_place() -> None:
    weights = {}
    for bfloat16 in (True, False):
        layer = torch.nn.Linear(8, 8, bias=False)
        torch.nn.init.eye_(layer.weight)
        original = _muon._zeropower_via_newtonschulz
        optimizer = MuonAdamW(layer.named_parameters(), lr=0.1, weight_decay=0.0, bfloat16=bfloat16)
        layer.weight.grad = torch.arange(64.0).reshape(8, 8).sin()
        optimizer.step()
        assert _muon._zeropower_via_newtonschulz is original
        weights[bfloat16] = layer.weight.detach().clone()
    difference = float((weights[True] - weights[False]).abs().max())
    assert 0 < difference < 0.02, "of a step of 0.1 * 0.2 * sqrt(8) = 0.057 for each singular value"
