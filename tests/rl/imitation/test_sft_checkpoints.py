"""Supervised training on the real trainer: resumed bit for bit, never from or to broken weights."""

import json
import math
import pickle
import resource
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pickles import pickles
from safetensors.torch import load_file, save_file

from data.errors import NonFiniteError, StorageError
from data.forests.rows import Row
from data.text.codec import load_codec
from rl.config.stages import SftStage
from rl.imitation.demonstrations import LeftOut
from rl.imitation.job import SupervisedJob
from rl.imitation.progress import PROGRESS
from rl.learner.added_tags import TAG_FILE
from rl.storage.checkpoints import checkpoints
from rl.storage.checksums import damage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]


class Source:
    """Seven forests of one row each; `broken` of them have a loss that is not a number."""

    def __init__(self, codec: Any, broken: Sequence[int] = ()) -> None:
        self.codec, self._broken = codec, broken
        self.left_out = LeftOut()

    def forests(self, tokens: int) -> Iterator[list[Row]]:
        for index in range(7):
            weight = math.inf if index in self._broken else 1.0
            yield [Row(ids=(3, 4, 5 + index, 6, 7), first=2, weights=(weight, 1.0, 1.0))]


def train(
    model_dir: Path,
    folder: Path,
    *,
    steps: int = 60,
    checkpoint: Path | None = None,
    optimizer: str = "adamw",
    broken: Sequence[int] = (),
    lora: Mapping[str, Any] | None = None,
) -> None:
    from rl.imitation.trainer import train_sft

    stage = SftStage.model_validate(
        {
            "kind": "sft", "name": "sft", "steps": steps, "tokens_per_step": 32, "forest_tokens": 32,
            "learning_rate": 1e-3, "warmup_steps": 5, "demonstrations": 1, "optimizer": optimizer,
            "lora": lora,
        }
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    job = SupervisedJob(
        stage=stage, model_dir=model_dir, output_dir=folder, checkpoint=checkpoint, seed=0, rank=0, world=1,
        master=":",
    )  # fmt: skip
    train_sft(job, Source(load_codec(model_dir), broken))  # type: ignore[arg-type]


def parsed(text: str) -> Any:
    """The value of a JSON text; NaN, which Python would take, is refused."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def steps_of(folder: Path) -> list[dict[str, Any]]:
    lines = map(parsed, (folder / PROGRESS).read_text().splitlines())
    return [line for line in lines if "step" in line]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_training_ends_as_an_undisturbed_one(
    tiny_model_dir: Path, tmp_path: Path, optimizer: str
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train(tiny_model_dir, whole, optimizer=optimizer)
    saved = checkpoints(whole / "checkpoints")
    assert [path.name for path in saved] == ["step-000050", "step-000060"]
    assert [damage(path) for path in saved] == [None, None]
    train(tiny_model_dir, resumed, optimizer=optimizer, checkpoint=saved[0])
    assert (resumed / "model" / "model.safetensors").read_bytes() == (
        whole / "model" / "model.safetensors"
    ).read_bytes()
    assert steps_of(resumed) == steps_of(whole)
    assert [line["step"] for line in steps_of(whole)] == list(range(1, 61))
    assert damage(resumed / "checkpoints" / "step-000060") is None
    for name in ("optimizer.safetensors", "random.safetensors", "schedule.json", "model.safetensors"):
        assert (resumed / "checkpoints/step-000060" / name).read_bytes() == (saved[1] / name).read_bytes()


def test_adapters_and_tag_rows_resume_bit_for_bit_and_end_merged(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    """Adapters of one layer and the rows of two added tags; the stage's model is a plain one."""
    model_dir = tmp_path / "start"
    shutil.copytree(tiny_model_dir, model_dir)
    (model_dir / TAG_FILE).write_text('{"<a>": 4, "</a>": 9}')
    lora = {"rank": 2, "targets": ("down_proj",)}
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train(model_dir, whole, steps=60, lora=lora)
    saved = checkpoints(whole / "checkpoints")
    train(model_dir, resumed, steps=60, lora=lora, checkpoint=saved[0])
    for name in ("model.safetensors", "adapter.safetensors"):
        assert (resumed / "model" / name).read_bytes() == (whole / "model" / name).read_bytes()
    begun, ended = (load_file(folder / "model.safetensors") for folder in (model_dir, whole / "model"))
    assert begun.keys() == ended.keys()
    moved = {name for name in begun if not torch.equal(begun[name], ended[name])}
    table = "model.embed_tokens.weight"
    assert moved == {table, *(f"model.layers.{layer}.mlp.down_proj.weight" for layer in (0, 1))}
    assert (begun[table] != ended[table]).any(dim=1).nonzero()[:, 0].tolist() == [4, 9]


def test_nothing_on_disk_is_pickled(tiny_model_dir: Path, tmp_path: Path) -> None:
    train(tiny_model_dir, tmp_path / "run", steps=50)
    assert pickles(tmp_path / "run") == []
    # The search finds what pickle and torch write.
    (tmp_path / "run" / "a").write_bytes(pickle.dumps([1]))
    torch.save({"a": torch.zeros(1)}, tmp_path / "run" / "b")
    assert [path.name for path in pickles(tmp_path / "run")] == ["a", "b"]


def test_an_update_that_is_not_finite_is_skipped_and_counted(tiny_model_dir: Path, tmp_path: Path) -> None:
    train(tiny_model_dir, tmp_path / "run", steps=52, broken=(3,))
    lines = steps_of(tmp_path / "run")
    skipped = [line for line in lines if line["skipped_updates"]]
    # Each of the seven forests comes seven times, and the first three once more.
    assert len(lines) == 52 and len(skipped) in (7, 8)
    assert all(line["loss"] == line["gradient_norm"] == "nan" for line in skipped)
    state = parsed((tmp_path / "run/checkpoints/step-000050/trainer_state.json").read_text())
    broken = [logs["step"] for logs in state["log_history"] if logs["grad_norm"] == "nan"]
    assert broken == [line["step"] for line in skipped if line["step"] <= 50]
    weights = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_loss_that_is_never_finite_ends_the_training(
    tiny_model_dir: Path, tmp_path: Path, optimizer: str
) -> None:
    with pytest.raises(NonFiniteError, match=r"stage sft: .* 10 updates in a row, up to number 10"):
        train(tiny_model_dir, tmp_path / "run", broken=range(7), optimizer=optimizer)
    assert [line["step"] for line in steps_of(tmp_path / "run")] == list(range(1, 11))
    assert not (tmp_path / "run" / "model").exists()


def test_a_short_training_without_one_finite_update_is_no_success(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(NonFiniteError, match="all 3 updates"):
        train(tiny_model_dir, tmp_path / "run", steps=3, broken=range(7))
    assert not (tmp_path / "run" / "model").exists()


def test_weights_that_are_not_finite_are_not_trained_on(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model_dir, tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    name = "model.norm.weight"
    weights[name].view(-1)[0] = math.inf
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NonFiniteError, match=rf"begins with: 1 of .*{name}"):
        train(model, tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


def test_a_full_disk_ends_the_training_and_leaves_what_was_there(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(tiny_model_dir, run, steps=50)
    (first,) = checkpoints(run / "checkpoints")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond this: as on a full disk, the write fails half-way.
    resource.setrlimit(resource.RLIMIT_FSIZE, ((first / "model.safetensors").stat().st_size // 2, hard))
    try:
        with pytest.raises(StorageError, match=r"checkpoint after update 60 could not be written") as ended:
            train(tiny_model_dir, run, steps=60, checkpoint=first)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "fix: make room" in str(ended.value)
    assert checkpoints(run / "checkpoints") == [first] and damage(first) is None
    train(tiny_model_dir, run, steps=60, checkpoint=first)
