"""Rewards that depend on the step: whatever order groups finish in, the step that trains one weighs it."""

import asyncio
import json
import random
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from episodes import call, episode
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_lab import one_stage

from data.episodes.trajectory import Episode, VersionSpan
from data.ledger.ledger import Ledger
from data.tasks.problem import Problem
from data.text.prompt import Prompt
from rewards.compose import at_step, factors_at
from rewards.score import Score
from rl.config import Recipe
from rl.config.stages import RlStage
from rl.controller.admission import Admission
from rl.controller.progress import LoopActivity
from rl.scored_group import ScoredGroup, group_index_of
from rl.stages.reinforce import ReinforcementLoop
from rl.tracking.metrics import MetricsWriter

SAMPLES, STEPS = 2, 7
ALTERNATING = {"kind": "alternating", "period": 3, "start": 1, "length": 1}
ANNEALED = {"kind": "annealed", "steps": 5}


def scheduled(folder: Path, schedule: dict[str, Any], **options: Any) -> tuple[Recipe, RlStage]:
    """A recipe whose second term has this schedule. -> (recipe, its stage)."""
    rewards = [{"name": "correct"}, {"name": "parl", "schedule": schedule}]
    shape = {"steps": STEPS, "groups_per_step": 2, "samples_per_group": SAMPLES, "minibatches": 1}
    return one_stage(folder, rewards, **shape, **options)


def scores_of(group: int) -> tuple[Score, ...]:
    """Groups 0, 4, 8, ... differ in both terms, 1, 5, ... in the second only, 2, ... in the first only, and
    in 3, 7, ... the two cancel out as long as both count in full.
    """
    first, second = group % 2 == 0 or group % 4 == 3, group % 4 != 2
    scores = []
    for sample in range(SAMPLES):
        sign = -1.0 if group % 4 == 3 else 1.0
        components = {"correct": 1.0 * sample * first, "parl": sign * sample * second}
        scores.append(
            Score(value=sum(components.values()), components=components, reason="", correct=bool(sample))
        )
    return tuple(scores)


def one_by_one(configs: Sequence[Any], per_step: int, *, drop: bool) -> list[list[tuple[int, list[Any]]]]:
    """What each step trains, deciding group after group with everything before it known."""
    steps: list[list[tuple[int, list[Any]]]] = [[]]
    group = 0
    while True:
        if len(steps[-1]) == per_step:
            if len(steps) == STEPS:
                return steps
            steps.append([])
        factors = factors_at(configs, len(steps) - 1)
        rewards = [at_step(score, factors).value for score in scores_of(group)]
        if not drop or len(set(rewards)) > 1:
            steps[-1].append((group, rewards))
        group += 1


class World:
    """Engines, rewards and learner of a loop, that take as long as a generator says."""

    def __init__(self, tmp_path: Path, recipe: Recipe, stage: RlStage, seed: int) -> None:
        self.rng = random.Random(seed)
        self.trained: list[list[tuple[int, list[Any]]]] = []
        context = SimpleNamespace(
            directory=SimpleNamespace(path=tmp_path, stage=lambda name: tmp_path),
            recipe=recipe,
            problems=lambda stage, split: [Problem(str(n), "any", {}) for n in range(5)],
            task=lambda stage: SimpleNamespace(prompt=lambda problem: Prompt("1")),
            ledger=Ledger.open(tmp_path / "ledger.sqlite"),
            report=lambda stage_name, kind, what: None,
        )
        self.ledger = context.ledger
        self.ledger.open_stage(stage.name, step=0, next_group=0)
        engines = SimpleNamespace(
            run_group=self.run_group, occupancy=dict, publish=self.publish, canary=self.canary,
            new_file=lambda: tmp_path / "weights",
        )  # fmt: skip
        self.loop = ReinforcementLoop(
            context,  # type: ignore[arg-type]
            stage,
            engines,  # type: ignore[arg-type]
            SimpleNamespace(step=self.learn, logprobs=self.logprobs, publish=self.write),  # type: ignore[arg-type]
            SimpleNamespace(score=self.score),  # type: ignore[arg-type]
            LoopActivity("test"),
            step=0,
            next_group=0,
        )

    async def wait(self) -> None:
        for _ in range(self.rng.choice([0, 1, 2, 5, 40])):
            await asyncio.sleep(0)

    async def run_group(self, params: Any, specs: Any, moved: Any) -> tuple[list[Episode], int]:
        version = self.loop.admission.version
        await self.wait()
        made = []
        for spec in specs:
            said = replace(
                call(0, 0, 3),
                logprobs=(-1.0,) * 3,
                versions=(VersionSpan(version=version, start=0, stop=3),),
            )
            made.append(replace(episode((said,)), id=spec.id))
        return made, group_index_of(specs[0].id)

    async def score(self, problem: Problem, episodes: Any, group: int) -> tuple[Score, ...]:
        await self.wait()
        return scores_of(group)

    async def learn(self, step: int, groups: list[ScoredGroup]) -> dict[str, float]:
        await self.wait()
        assert step == len(self.trained)
        self.trained.append([(group.index, group.rewards) for group in groups])
        return {}

    async def logprobs(self, texts: Any, rounds: bool) -> list[list[float]]:
        return [[-1.0] * len(output) for _, output in texts]

    async def write(self, path: Path) -> str:
        return ""

    async def publish(self, path: Path, version: int, checksum: str) -> list[Any]:
        await self.wait()
        return []

    async def canary(self, request: Any) -> list[Any]:
        return []


def run(tmp_path: Path, recipe: Recipe, stage: RlStage, seed: int) -> tuple[World, list[Any]]:
    """A whole stage. -> (its world, one row of metrics a step)."""

    async def all_steps() -> tuple[World, list[Any]]:
        world = World(tmp_path, recipe, stage, seed)
        with (
            MetricsWriter(tmp_path, stage.name) as metrics,
            closing(world.ledger),
        ):
            world.loop._health.open(metrics)
            rows = [await asyncio.wait_for(world.loop._one_step(), 20) for _ in range(STEPS)]
            await world.loop._groups.cancel()
        return world, rows

    return asyncio.run(all_steps())


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("staleness", [0, 1, 3])
@pytest.mark.parametrize("schedule", [ALTERNATING, ANNEALED], ids=["alternating", "annealed"])
def test_what_is_trained_does_not_depend_on_who_finishes_first(
    tmp_path: Path, schedule: dict[str, Any], staleness: int, drop: bool
) -> None:
    recipe, stage = scheduled(tmp_path, schedule, staleness=staleness, drop_zero_variance=drop)
    expected = one_by_one(recipe.rewards, 2, drop=drop)
    for seed in range(8):
        world, _ = run(tmp_path, recipe, stage, seed)
        assert world.trained == expected


def test_the_example_has_groups_that_only_their_step_decides(tmp_path: Path) -> None:
    """Or the test above would pass with any weights."""
    kept, full = (
        [group for step in one_by_one(recipe.rewards, 2, drop=True) for group, _ in step]
        for recipe, _ in (scheduled(tmp_path, schedule) for schedule in (ALTERNATING, {"kind": "constant"}))
    )
    assert {group % 4 for group in full} == {0, 1, 2}
    assert any(group % 4 == 3 for group in kept)  # the terms no longer cancel out
    assert [group for group in range(kept[-1]) if group % 4 == 1 and group not in kept]  # nothing is left


def test_the_record_and_the_metrics_have_the_rewards_as_trained(tmp_path: Path) -> None:
    world, rows = run(tmp_path, *scheduled(tmp_path, ALTERNATING, staleness=1), 0)
    for step, (row, trained) in enumerate(zip(rows, world.trained, strict=True)):
        kept = json.loads((tmp_path / "record" / f"step-{step:06d}.scores.json").read_text())
        assert kept["factors"] == {"correct": 1.0, "parl": float(step % 3 == 1)}
        rewards = {
            f"{group}/{sample}": value for group, values in trained for sample, value in enumerate(values)
        }
        assert {name: score["reward"] for name, score in kept["scores"].items()} == rewards
        assert row["reward/mean"] == pytest.approx(sum(rewards.values()) / len(rewards))
        assert row["schedule/parl"] == kept["factors"]["parl"]
        assert "schedule/correct" not in row
        parl = [score["parts"]["parl"] for score in kept["scores"].values()]
        assert row["reward/parl"] == pytest.approx(sum(parl) / len(parl))
        assert any(parl) == (step % 3 == 1 and any(group % 4 != 2 for group, _ in trained))


def test_steps_of_by_hand() -> None:
    admission = Admission(groups_per_step=2, staleness=1, total_steps=5)
    for _ in range(4):
        admission.start()
    assert [admission.steps_of(group) for group in range(4)] == [range(1), range(1), range(2), range(2)]
    admission.finish(0, kept=False)
    assert [admission.steps_of(group) for group in (1, 2, 3)] == [range(1), range(1), range(2)]
    admission.finish(1, kept=True)
    assert [admission.steps_of(group) for group in (2, 3)] == [range(1), range(2)]
    admission.finish(2, kept=True)
    assert admission.steps_of(3) == range(1, 2)
    admission.consume()
    assert admission.steps_of(3) == range(1, 2)


@pytest.mark.medium
@settings(max_examples=150, deadline=None)
@given(per_step=st.integers(1, 3), staleness=st.integers(0, 3), data=st.data())
def test_the_step_that_trains_a_group_was_always_among_its_steps(
    per_step: int, staleness: int, data: st.DataObject
) -> None:
    """Whatever happens, in any order; the choice only narrows, and at S = 0 there never is one."""
    admission = Admission(groups_per_step=per_step, staleness=staleness, total_steps=4)
    said: dict[int, range] = {}
    running: list[int] = []
    while admission.step < 4:
        if admission.ready() is not None:
            step = admission.step
            for group in admission.consume():
                assert step in said[group]
            admission.publish(step + 1)
        elif admission.admissible() is not None and (not running or data.draw(st.booleans())):
            running.append(admission.start())
        else:
            group = running.pop(data.draw(st.integers(0, len(running) - 1)))
            admission.finish(group, kept=data.draw(st.booleans()) or admission.next_group > 30)
        for group in running:
            steps = admission.steps_of(group)
            assert set(steps) <= set(said.get(group, steps))
            said[group] = steps
        if running:
            assert len(said[min(running)]) == 1
        if staleness == 0:
            assert all(len(said[group]) == 1 for group in running)
