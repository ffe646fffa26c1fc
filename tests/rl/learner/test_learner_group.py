"""Two ranks of the learner, each with a share of the forests, against one that computes all of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rl.learner.collectives import Ranks, open_listener
from rollout.engines.weight_file import read_model_specs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CODE = """
import json, shutil, socket, sys
from pathlib import Path
import torch
from forest_lab import graded_groups, save
from rl.config.stages import RlStage
from rl.learner.learner import Learner
from rl.learner.settings import LearnerSettings
from rl.learner.collectives import Ranks

torch.set_num_threads(1)
model, cases, folder, address, listener, rank, world = sys.argv[1:]
folder = Path(folder)
ranks = Ranks(rank=int(rank), world=int(world))
ranks.init(address, socket.socket(fileno=int(listener)) if ranks.rank == 0 else None)


def learner(given):
    stage = RlStage.model_validate(
        {
            "kind": "rl", "name": "rl", "steps": 10, "groups_per_step": 4, "samples_per_group": 4,
            "learning_rate": 1e-3, "forest_tokens": 64, "minibatches": 2, **given,
        }
    )
    return Learner(Path(model), LearnerSettings(stage=stage, max_tokens=64), ranks)


found = {}
for name, given in json.loads(cases).items():
    made, metrics = learner(given), []
    for step in range(4):
        if step == 2:  # goes on from a checkpoint
            saved = folder / name
            saved.mkdir(exist_ok=True)
            save(made, saved)
            if ranks.world > 1:
                torch.distributed.barrier()
            made = learner(given)
            made.load(saved)
        metrics.append(made.step(step, graded_groups(Path(model), seed=step)))
        metrics[-1].pop("implicit/checksum", None)  # sums in another order have another one
    weights = torch.cat([tensor.flatten() for tensor in made.weights().values()])
    (canary,) = made.logprobs([((5, 6, 7), (8, 9))])
    own = ("optimizer.safetensors", "critic.safetensors", "implicit.safetensors")
    kept = [path for path in saved.iterdir() if path.name not in own]
    model_only = folder / f"{name} model"
    model_only.mkdir(exist_ok=True)
    for path in kept:
        shutil.copyfile(path, model_only / path.name)
    found[name] = {
        "metrics": metrics, "weights": weights.tolist(), "canary": canary, "saved": str(model_only),
    }
(folder / f"{rank}.json").write_text(json.dumps(found))
"""


PRIME: dict[str, Any] = {"name": "prime", "implicit": {"learning_rate": 1e-2, "lora": {"rank": 4}}}
CASES: dict[str, dict[str, Any]] = {
    "grpo": {"algorithm": {"kl_coef": 0.01}},
    "gspo": {
        "algorithm": {
            "name": "gspo", "proximal": "recomputed", "corrections": [{"name": "mask", "level": "sequence"}]
        }
    },
    "ppo": {"algorithm": {"name": "ppo", "critic": {"warmup_steps": 1}}},
    "prime, sharded": {"algorithm": PRIME, "sharding": "fsdp"},
    "grpo, sharded": {"algorithm": {"kl_coef": 0.01}, "sharding": "fsdp"},
    "gspo, sharded": {"algorithm": {"name": "gspo"}, "sharding": "fsdp", "activation_checkpointing": True},
    "ppo, sharded": {
        "algorithm": {"name": "ppo", "critic": {"warmup_steps": 1, "level": "call"}}, "sharding": "fsdp",
    },
}  # fmt: skip
Found = dict[str, dict[str, Any]]


def run(model: Path, folder: Path, world: int) -> list[Found]:
    """What every rank ends with, by case."""
    folder = folder / str(world)
    folder.mkdir()
    listener = open_listener("127.0.0.1")
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    paths = [str(Path(__file__).parents[3]), str(Path(__file__).parents[2] / "support")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, str(model), json.dumps(CASES), str(folder), address,
             str(listener.fileno()), str(rank), str(world)],
            env=environment,
            pass_fds=[listener.fileno()] if rank == 0 else [],
        )
        for rank in range(world)
    ]  # fmt: skip
    listener.close()
    try:
        assert [rank.wait(200) for rank in ranks] == [0] * world
    finally:
        for rank in ranks:
            rank.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]


@pytest.fixture(scope="module")
def curves(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, list[Found]]:
    """-> (of one rank, of two)."""
    folder = tmp_path_factory.mktemp("ranks")
    return run(tiny_model_dir, folder, 1)[0], run(tiny_model_dir, folder, 2)


def test_a_checkpoint_holds_what_engines_are_given(
    tiny_model_dir: Path, curves: tuple[Found, list[Found]]
) -> None:
    """Tied weights once, sharded or not."""
    base = read_model_specs(tiny_model_dir)
    for name in CASES:
        assert read_model_specs(Path(curves[1][0][name]["saved"])) == base, name


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_give_the_curve_of_one(curves: tuple[Found, list[Found]], name: str) -> None:
    alone, both = curves
    assert {**both[0][name], "saved": ""} == {**both[1][name], "saved": ""}
    for expected, found in zip(alone[name]["metrics"], both[0][name]["metrics"], strict=True):
        assert found == pytest.approx(expected, rel=2e-3, abs=1e-5)
    # AdamW divides by the size of a gradient: where that is rounding alone, so is the step (1e-3 here).
    assert both[0][name]["canary"] == pytest.approx(alone[name]["canary"], abs=1e-2)
    far = [abs(a - b) for a, b in zip(alone[name]["weights"], both[0][name]["weights"], strict=True)]
    assert sum(difference > 1e-4 for difference in far) < 0.01 * len(far)


def test_a_rank_alone_talks_to_nobody() -> None:
    ranks = Ranks()
    ranks.all_reduce_sum([])
    assert ranks.all_reduce_max(3.0) == 3.0
