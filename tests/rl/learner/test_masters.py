"""Weights in bfloat16 with float32 masters: the same passes, exact updates, exact checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch
from forest_lab import REWARDS, make_groups
from safetensors.torch import load_file

from data.forests.collate import collate
from data.forests.forest import build_forest
from data.forests.rows import Row
from rl.config.stages import RlStage
from rl.learner.learner import Learner
from rl.learner.logprobs import forest_logprobs
from rl.learner.masters import MasterWeights, round_weights
from rl.learner.model import load_model
from rl.learner.optimizer import OPTIMIZERS
from rl.learner.settings import LearnerSettings
from rl.learner.snapshot import MODEL_FILE

BATCH = collate(build_forest([Row(ids=(5, 6, 7, 8, 9, 10), first=2, weights=(1.0,) * 4)]))
LORA = {"rank": 4, "alpha": 8.0}


def learner(model_dir: Path, **given: Any) -> Learner:
    stage = {
        "kind": "rl", "name": "rl", "steps": 10, "groups_per_step": 4, "samples_per_group": 3,
        "learning_rate": 1e-3, "precision": "bfloat16", "weights": "bfloat16", "weight_decay": 0.1, **given,
    }  # fmt: skip
    return Learner(model_dir, LearnerSettings(stage=RlStage.model_validate(stage), max_tokens=64))


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_pass_is_that_of_the_rounded_weights_in_float32(tiny_model_dir: Path) -> None:
    """Bit for bit: layers in bfloat16 round float32 weights to the same numbers."""
    rounded, plain = load_model(tiny_model_dir), load_model(tiny_model_dir)
    masters = round_weights(rounded)
    assert all(parameter.dtype == torch.bfloat16 for parameter in rounded.parameters() if parameter.dim() > 1)
    assert all(parameter.dtype == torch.float32 for parameter in rounded.parameters() if parameter.dim() == 1)
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            assert parameter.dim() == 1 or torch.equal(masters[name], parameter)
            parameter.copy_(parameter.to(torch.bfloat16) if parameter.dim() > 1 else parameter)
    found, _ = forest_logprobs(rounded, BATCH, bfloat16=True)
    expected, _ = forest_logprobs(plain, BATCH, bfloat16=True)
    assert torch.equal(found, expected)


def test_updates_smaller_than_bfloat16_add_up(tiny_model_dir: Path) -> None:
    """1 cannot move by 0.001 in bfloat16 (the next number is 1.0078); ten such updates move it."""
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(torch.ones(2, 2, dtype=torch.bfloat16))

    def descend(named: Any, *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        return torch.optim.SGD([parameter for _, parameter in named], lr=lr)

    optimizer = MasterWeights(descend, model, {"weight": torch.ones(2, 2)}, lr=1e-3, weight_decay=0.0)
    seen = []
    for _ in range(10):
        model.weight.grad = -torch.ones(2, 2, dtype=torch.bfloat16)
        optimizer.step()
        optimizer.zero_grad()
        assert model.weight.grad is None
        seen.append(float(model.weight.detach()[0, 0]))
    assert seen[:3] == [1.0, 1.0, 1.0] and seen[-1] == 1.0078125
    assert float(optimizer.pairs["weight"][1].detach()[0, 0]) == pytest.approx(1.01, abs=1e-6)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_first_update_is_that_of_float32(tiny_model_dir: Path, name: str) -> None:
    """With the same gradients the masters move exactly as plain weights do."""
    rounded, plain = load_model(tiny_model_dir), load_model(tiny_model_dir)
    masters = round_weights(rounded)
    optimizers = (
        MasterWeights(OPTIMIZERS[name], rounded, masters, lr=1e-2, weight_decay=0.1),
        OPTIMIZERS[name](plain.named_parameters(), lr=1e-2, weight_decay=0.1),
    )
    generator = torch.Generator().manual_seed(0)
    for one, other in zip(rounded.parameters(), plain.parameters(), strict=True):
        gradient = torch.randn(one.shape, generator=generator).to(torch.bfloat16)
        one.grad, other.grad = gradient.to(one.dtype), gradient.float()
    for optimizer in optimizers:
        optimizer.step()
    assert isinstance(optimizers[0], MasterWeights)
    for key, parameter in plain.named_parameters():
        if key in optimizers[0].pairs:
            mine, master = optimizers[0].pairs[key]
            assert torch.equal(master, parameter) and torch.equal(mine, parameter.to(torch.bfloat16))


@pytest.mark.parametrize("given", [{}, {"lora": LORA}, {"optimizer": "muon"}], ids=["full", "lora", "muon"])
def test_a_checkpoint_carries_the_masters_exactly(
    tiny_model_dir: Path, tmp_path: Path, given: dict[str, Any]
) -> None:
    groups = make_groups(tiny_model_dir, REWARDS)
    one, other = learner(tiny_model_dir, **given), learner(tiny_model_dir, **given)
    one.step(0, groups)
    snapshot = one.snapshot()
    assert snapshot is not None
    snapshot.write(tmp_path)
    saved = load_file(tmp_path / MODEL_FILE)
    assert all(tensor.dtype == torch.float32 for tensor in saved.values())
    if not given.get("lora"):
        rounded = {name: tensor.to(torch.bfloat16).float() for name, tensor in saved.items()}
        assert not equal(saved, rounded), "masters, not what the passes read"
    other.load(tmp_path)
    assert equal(one.weights(), other.weights()) and equal(one.published(), other.published())
    one.step(1, groups)
    other.step(1, groups)
    assert equal(one.weights(), other.weights())


def test_engines_get_what_the_passes_read(tiny_model_dir: Path) -> None:
    made = learner(tiny_model_dir)
    made.step(0, make_groups(tiny_model_dir, REWARDS))
    for name, tensor in made.published().items():
        expected = made.weights()[name]
        assert torch.equal(tensor, expected.to(torch.bfloat16).float() if tensor.dim() > 1 else expected)


def test_it_learns_as_float32_does(tiny_model_dir: Path) -> None:
    """Loss and gradient norm of the same step within bfloat16's rounding of float32 weights."""
    groups = make_groups(tiny_model_dir, REWARDS)
    half = learner(tiny_model_dir).step(0, groups)
    whole = learner(tiny_model_dir, weights="float32").step(0, groups)
    assert half["loss"] == pytest.approx(whole["loss"], rel=0.1, abs=0.02)
    assert half["gradient_norm"] == pytest.approx(whole["gradient_norm"], rel=0.1)
