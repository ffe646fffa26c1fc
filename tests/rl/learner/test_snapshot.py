"""A snapshot does not change with the learner, and its files are those that the libraries write."""

from pathlib import Path

import pytest
import torch
from forest_lab import graded_groups
from safetensors.torch import load_file, save_file

from data.errors import NonFiniteError
from rl.config.stages import RlStage
from rl.learner.collectives import Ranks
from rl.learner.learner import Learner
from rl.learner.model import load_model, publishable_weights
from rl.learner.settings import LearnerSettings
from rl.learner.snapshot import MODEL_FILE, Snapshot, write_tensors
from rl.runtime.rank_worker import RankWorker


def learner(model_dir: Path) -> Learner:
    stage = RlStage.model_validate(
        {
            "kind": "rl", "name": "rl", "steps": 10, "groups_per_step": 4, "samples_per_group": 4,
            "learning_rate": 1e-3, "forest_tokens": 64, "drop_zero_variance": False,
            "algorithm": {"name": "ppo", "critic": {"warmup_steps": 0}},
        }
    )  # fmt: skip
    return Learner(model_dir, LearnerSettings(stage=stage, max_tokens=64))


def test_training_on_does_not_change_a_snapshot(tiny_model_dir: Path, tmp_path: Path) -> None:
    made = learner(tiny_model_dir)
    made.step(0, graded_groups(tiny_model_dir, seed=0))
    early, late = made.snapshot(), made.snapshot()
    assert early is not None and late is not None
    for folder in ("early", "late"):
        (tmp_path / folder).mkdir()
    early.write(tmp_path / "early")
    made.step(1, graded_groups(tiny_model_dir, seed=1))
    late.write(tmp_path / "late")
    names = sorted(path.name for path in (tmp_path / "early").iterdir())
    assert {"model.safetensors", "optimizer.safetensors", "critic.safetensors", "config.json"} <= set(names)
    for name in names:
        assert (tmp_path / "early" / name).read_bytes() == (tmp_path / "late" / name).read_bytes(), name
    trained = made.snapshot()
    assert trained is not None
    for name, tensors in trained.tensors.items():
        kept = load_file(tmp_path / "early" / name)
        assert any(not torch.equal(tensor, kept[key]) for key, tensor in tensors.items()), name


def test_a_model_is_written_as_save_pretrained_does(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = load_model(tiny_model_dir)
    (tmp_path / "ours").mkdir()
    Snapshot.of(model, {MODEL_FILE: publishable_weights(model)}).write(tmp_path / "ours")
    model.save_pretrained(str(tmp_path / "theirs"), state_dict=publishable_weights(model))
    ours, theirs = (
        {path.name: path.read_bytes() for path in (tmp_path / side).iterdir()} for side in ("ours", "theirs")
    )
    assert ours == theirs


def test_all_kinds_of_tensors_are_written_as_safetensors_does(tmp_path: Path) -> None:
    tensors = {
        "ü.weight": torch.randn(3, 5),
        "half": torch.randn(7).to(torch.bfloat16),
        "double": torch.randn(2, 1, 2, dtype=torch.float64),
        "count": torch.tensor(3),
        "none": torch.zeros(0, 4),
        "mask": torch.tensor([True, False, True]),
    }
    write_tensors(tmp_path / "ours", tensors)
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nothing_is_written_of_a_snapshot_that_is_not_finite(
    tiny_model_dir: Path, tmp_path: Path, value: float
) -> None:
    model = load_model(tiny_model_dir)
    tensors = {MODEL_FILE: publishable_weights(model), "critic.safetensors": {"head": torch.tensor([value])}}
    with pytest.raises(NonFiniteError, match=r"critic\.safetensors: 1 of 1 tensors"):
        Snapshot.of(model, tensors).write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_not_published(tiny_model_dir: Path, tmp_path: Path) -> None:
    made = learner(tiny_model_dir)
    worker = RankWorker()
    worker._learner, worker._lora, worker._ranks = made, None, Ranks()
    assert worker.publish(tmp_path / "1.safetensors")
    with torch.no_grad():
        next(iter(made.model.parameters()))[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="publishing the weights: 1 of "):
        worker.publish(tmp_path / "2.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["1.safetensors"]


def test_a_critic_counts_the_updates_that_it_skips(tiny_model_dir: Path) -> None:
    made, groups = learner(tiny_model_dir), graded_groups(tiny_model_dir, seed=0)
    assert made.critic is not None
    assert made.step(0, groups)["critic_skipped_updates"] == 0.0
    before = made.critic.head.bias.detach().clone()
    made.critic.head.weight.register_hook(lambda gradient: gradient * float("nan"))
    assert made.step(1, groups)["critic_skipped_updates"] == 1.0
    assert torch.equal(made.critic.head.bias, before)
