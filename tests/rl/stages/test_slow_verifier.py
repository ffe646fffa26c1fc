"""A verifier that sleeps on one answer of eight, in a whole run: only that episode is ungraded."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

LIMIT_S = 10.0
STAGE = {
    "name": "rl", "kind": "rl", "steps": 1, "groups_per_step": 1, "samples_per_group": 8,
    "learning_rate": 1e-3, "forest_tokens": 512, "drop_zero_variance": False, "reward_seconds": LIMIT_S,
    "health": {"cut_off_share": 1.0, "fork_share": 0.0},
}  # fmt: skip
DRIVER = """
import sys, time
from pathlib import Path

import ray

from rewards.actor import RewardWorker
from rl.config import load_recipe
from rl.run import run
from rl.runtime.environment import set_driver_environment
from rl.runtime.reward_pool import RewardPool
from rl.runtime.services import Factories
from rl.storage.run_directory import RunDirectory


class Sleeping(RewardWorker):
    def score_group(self, problem, episodes, first=0):
        for index in range(first, len(episodes)):
            if episodes[index].id.endswith("/5"):
                time.sleep(1000)
            yield from super().score_group(problem, episodes[index : index + 1])


def start(site, stage):
    arguments = site.recipe.rewards_of(stage), site.recipe.task_of(stage).params, site.directory.start
    actor = ray.remote(Sleeping).options(**site.placement.here())
    return RewardPool(
        lambda: actor.remote(*arguments),
        workers=stage.reward_workers, seconds=stage.reward_seconds, start_seconds=stage.reward_start_seconds,
    )


set_driver_environment()
recipe = load_recipe(Path(sys.argv[1]), sys.argv[3:])
RunDirectory(Path(sys.argv[2])).open(recipe, "")
sys.exit(run(recipe, Path(sys.argv[2]), factories=Factories(rewards=start)))
"""


def test_one_sleeping_answer_of_eight_costs_its_own_grade_only(
    tiny: tuple[str, ...], tmp_path: Path, no_leftovers: None
) -> None:
    recipe = Path(__file__).parents[3] / "recipes" / "countdown_cpu.yaml"
    general = [item for item in tiny if not item.startswith(("sft.", "rl."))]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, recipe, tmp_path / "run", *general, f"stages={json.dumps([STAGE])}"],
        capture_output=True, text=True, cwd=tmp_path, timeout=360,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    with sqlite3.connect(tmp_path / "run/ledger.sqlite") as ledger:
        grades = ledger.execute("SELECT sample, reward IS NULL, reason FROM episodes").fetchall()
        seconds = [row[0] for row in ledger.execute("SELECT reward_s FROM groups WHERE state = 'consumed'")]
    ledger.close()
    assert len(grades) == 8 and len(seconds) == 1
    assert {sample for sample, ungraded, _ in grades if ungraded} == {5}
    assert all("not scored within 10 s" in reason for sample, _, reason in grades if sample == 5)
    assert all(LIMIT_S <= value <= LIMIT_S + 5 for value in seconds)
