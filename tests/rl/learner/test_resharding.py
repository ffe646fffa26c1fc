"""A checkpoint of one layout loads into any other: 1 rank -> 2 ranks -> 1 rank, to the bit."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from rl.learner.collectives import open_listener

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300)]

CODE = """
import json, socket, sys
from pathlib import Path
import torch
from forest_lab import graded_groups, save
from rl.config.stages import RlStage
from rl.learner.collectives import Ranks
from rl.learner.learner import Learner
from rl.learner.settings import LearnerSettings

torch.set_num_threads(1)
model, cases, source, target, steps, address, listener, rank, world = sys.argv[1:]
ranks = Ranks(rank=int(rank), world=int(world))
ranks.init(address, socket.socket(fileno=int(listener)) if ranks.rank == 0 else None)
for name, given in json.loads(cases).items():
    stage = RlStage.model_validate(
        {
            "kind": "rl", "name": "rl", "steps": 10, "groups_per_step": 4, "samples_per_group": 4,
            "learning_rate": 1e-3, "forest_tokens": 64, "optimizer": "adamw", **given,
        }
    )
    made = Learner(Path(model), LearnerSettings(stage=stage, max_tokens=64), ranks)
    if source:
        made.load(Path(source) / name)
    for step in range(int(steps)):
        made.step(step, graded_groups(Path(model), seed=made.updates))
    (Path(target) / name).mkdir(parents=True, exist_ok=True)
    for folder in ("", "again"):  # a step between two snapshots would show a share that was not gathered
        (Path(target) / name / folder).mkdir(exist_ok=True)
        save(made, Path(target) / name / folder)
"""
SHARDED = {"sharding": "fsdp"}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "weights": ({}, SHARDED),
    "critic": ({"algorithm": {"name": "ppo", "critic": {"warmup_steps": 0}}}, SHARDED),
    "adapters": ({"lora": {"rank": 4, "alpha": 8.0}}, {}),
}
"""(on one rank, what is added on two); adapters are not sharded."""


def run(model: Path, source: Path | None, target: Path, *, world: int, steps: int) -> None:
    """Loads every case from `source`, trains it, and saves it to `target`."""
    listener = open_listener("127.0.0.1")
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    cases = {name: {**alone, **(added if world > 1 else {})} for name, (alone, added) in CASES.items()}
    paths = [str(Path(__file__).parents[3]), str(Path(__file__).parents[2] / "support")]
    given = [str(model), json.dumps(cases), str(source or ""), str(target), str(steps), address]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, *given, str(listener.fileno()), str(rank), str(world)],
            pass_fds=[listener.fileno()] if rank == 0 else [],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        for rank in range(world)
    ]
    try:
        assert [rank.wait(200) for rank in ranks] == [0] * world
    finally:
        listener.close()
        for rank in ranks:
            rank.kill()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def test_one_rank_to_two_sharded_ones_and_back(tiny_model_dir: Path, tmp_path: Path) -> None:
    first, second, third, fourth = (tmp_path / name for name in ("first", "second", "third", "fourth"))
    run(tiny_model_dir, None, first, world=1, steps=2)
    run(tiny_model_dir, first, second, world=2, steps=0)
    run(tiny_model_dir, second, third, world=2, steps=1)
    run(tiny_model_dir, third, fourth, world=1, steps=0)
    for name in CASES:
        assert contents(first / name) == contents(second / name), "loaded by two, saved by two"
        assert contents(third / name) == contents(fourth / name), "trained by two, loaded by one"
        assert contents(first / name) == contents(first / name / "again")
    # Nothing in which the layouts could differ was left out.
    assert set(contents(first / "critic")) == {f"{n}.safetensors" for n in ("model", "optimizer", "critic")}
    assert set(contents(first / "adapters")) == {
        f"{n}.safetensors" for n in ("model", "optimizer", "adapter")
    }
    for name, (before, after) in {n: (first / n, third / n) for n in CASES}.items():
        old, new = load_file(before / "optimizer.safetensors"), load_file(after / "optimizer.safetensors")
        assert int(old["updates"]) == 2 and int(new["updates"]) == 3, name
        assert all(old[key].shape == new[key].shape for key in old)
        assert any(not old[key].equal(new[key]) for key in old if key.endswith("exp_avg_sq"))
