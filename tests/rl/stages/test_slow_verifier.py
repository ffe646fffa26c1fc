"""One answer of eight hangs its verifier for ever, in a whole run: only that answer is ungraded."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from rl.tracking.metrics import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(400)]

LIMIT_S = 5.0
STAGE = {
    "name": "rl", "kind": "rl", "steps": 2, "groups_per_step": 1, "samples_per_group": 8,
    "learning_rate": 1e-3, "forest_tokens": 512, "drop_zero_variance": False, "reward_seconds": 30.0,
    "health": {"cut_off_share": 1.0, "fork_share": 0.0},
}  # fmt: skip
FUNCTION = """
def grade(answer, gold):
    if answer == "58":
        return bool(9**9**9)  # holds the interpreter: no signal handler and no thread gets a turn
    return answer == gold
"""
DRIVER = """
import dataclasses, sys
from pathlib import Path

import ray

from data.episodes.trajectory import Forced, ThreadOutcome
from rewards.actor import RewardWorker
from rl.config import load_recipe
from rl.run import run
from rl.runtime.environment import set_driver_environment
from rl.runtime.reward_pool import RewardPool
from rl.runtime.services import Factories
from rl.storage.run_directory import RunDirectory


class Answering(RewardWorker):
    '''A model from random weights answers nothing: samples get answers here, number 5 the one that hangs.'''

    def score_group(self, problem, episodes, first=0):
        codec = self._reward._codec
        answers = [codec.encode("58" if episode.id.endswith("/5") else "59") for episode in episodes]
        answered = []
        for episode, ids in zip(episodes, answers):
            root = dataclasses.replace(episode.threads[0], outcome=ThreadOutcome.RETURNED)
            threads = (root, *episode.threads[1:])
            answered.append(dataclasses.replace(episode, answer=(Forced(ids=ids),), threads=threads))
        yield from super().score_group(problem, answered, first)


def start(site, stage):
    task = site.recipe.task_of(stage)
    arguments = site.recipe.rewards_of(stage), task.params, site.directory.start, task.verifier
    actor = ray.remote(Answering).options(**site.placement.here())
    return RewardPool(
        lambda: actor.remote(*arguments),
        workers=stage.reward_workers, seconds=stage.reward_seconds, start_seconds=stage.reward_start_seconds,
    )


set_driver_environment()
recipe = load_recipe(Path(sys.argv[1]), sys.argv[3:])
RunDirectory(Path(sys.argv[2])).open(recipe, "")
sys.exit(run(recipe, Path(sys.argv[2]), factories=Factories(rewards=start)))
"""


def test_one_hanging_answer_of_eight_costs_its_own_grade_only(
    tiny: tuple[str, ...], tmp_path: Path, no_leftovers: None
) -> None:
    recipe = Path(__file__).parents[3] / "recipes" / "parts_cpu.yaml"
    (tmp_path / "own.py").write_text(FUNCTION)
    general = [item for item in tiny if not item.startswith(("sft.", "rl."))]
    verifier = json.dumps({"name": "python", "file": "own.py", "function": "grade", "seconds": LIMIT_S})
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, recipe, tmp_path / "run", *general, f"task.verifier={verifier}",
         f"stages={json.dumps([STAGE])}"],
        capture_output=True, text=True, cwd=tmp_path, timeout=360,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    with sqlite3.connect(tmp_path / "run/ledger.sqlite") as ledger:
        grades = ledger.execute("SELECT sample, reward IS NULL, reason FROM episodes").fetchall()
        seconds = [row[0] for row in ledger.execute("SELECT reward_s FROM groups WHERE state = 'consumed'")]
    ledger.close()
    assert len(grades) == 16 and len(seconds) == 2
    assert {sample for sample, ungraded, _ in grades if ungraded} == {5}
    assert all("not verified within 5 s" in reason for sample, _, reason in grades if sample == 5)
    # Of two groups the faster one: other tests share the processors.
    assert min(seconds) >= LIMIT_S and min(seconds) <= LIMIT_S + 5
    rows = list(read_metrics(tmp_path / "run/metrics.jsonl", "rl"))
    assert len(rows) == 2
    for row in rows:
        faults = (row["reward/ungraded"], row["reward/ungraded_verifier"], row["reward/verifier_faults"])
        assert faults == (1, 1, 1)
        assert row["reward/answers_correct"] + row["reward/answers_wrong"] == 7
