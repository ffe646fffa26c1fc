"""Warnings reach screen, ledger and metrics at once, and the run ends when the recipe's patience is over."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from episodes import call, episode

from data.episodes.trajectory import Episode
from data.errors import StalledRun
from data.ledger.ledger import Ledger
from data.tasks.problem import Problem
from data.tasks.sampler import ProblemSampler
from data.text.prompt import Prompt
from rewards.score import Score
from rl.config.stages import RlStage
from rl.controller.admission import Admission
from rl.controller.group_runner import GroupRunner, GroupSource
from rl.controller.health_watch import HealthWatch
from rl.tracking.metrics import MetricsWriter, read_metrics
from rollout.protocols import default_params

IDLE = {"learner/updates": 0.0, "share/activation": 1.0}


def stage(**health: Any) -> RlStage:
    return RlStage.model_validate(
        {
            "name": "rl", "kind": "rl", "steps": 9, "groups_per_step": 2, "samples_per_group": 2,
            "learning_rate": 1e-3, "forest_tokens": 64, "health": health,
        }
    )  # fmt: skip


def watch(config: RlStage, shown: list[str], recorded: list[str]) -> HealthWatch:
    def record(stage_name: str, kind: str, what: str) -> None:
        recorded.append(f"{stage_name} {kind} {what}")

    def report(stage_name: str, kind: str, what: str) -> None:
        shown.append(what)
        record(stage_name, kind, what)

    return HealthWatch(config, default_params("sequential"), report, record)


def streaks(run: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["health/no_update"]) for row in read_metrics(run / "metrics.jsonl")
            if "health/no_update" in row]  # fmt: skip


def test_a_warning_is_reported_at_once_and_the_last_one_ends_the_run(tmp_path: Path) -> None:
    shown: list[str] = []
    recorded: list[str] = []
    health = watch(stage(patience_steps=3), shown, recorded)
    with MetricsWriter(tmp_path, "rl") as metrics:
        health.open(metrics)
        for step in range(2):
            metrics.write(step + 1, IDLE)
            health.on_step(step, IDLE)
        metrics.write(3, IDLE)
        with pytest.raises(
            StalledRun, match=r"^rl: in each of the last 3 steps the learner made no update"
        ) as end:
            health.on_step(2, IDLE)
    assert "The run ends here (rl.health.patience_steps)" in str(end.value)
    assert "\n  fix: " in str(end.value)
    assert streaks(tmp_path) == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert [line.split(",")[0] for line in recorded] == [
        "rl health in the last step the learner made no update",
        "rl health in each of the last 2 steps the learner made no update",
        "rl health in each of the last 3 steps the learner made no update",
    ]
    # The error shows the last one.
    assert [f"rl health {line}" for line in shown] == recorded[:2]


def test_a_streak_goes_on_over_a_resume(tmp_path: Path) -> None:
    """Two steps before the resume, and the third after it."""
    with MetricsWriter(tmp_path, "rl") as metrics:
        for step in range(2):
            metrics.write(step + 1, IDLE)
    health = watch(stage(patience_steps=3), [], [])
    with MetricsWriter(tmp_path, "rl", resumed_step=2) as metrics:
        health.open(metrics)
        metrics.write(3, IDLE)
        with pytest.raises(StalledRun):
            health.on_step(2, IDLE)


def test_action_warn_only_warns(tmp_path: Path) -> None:
    shown: list[str] = []
    health = watch(stage(patience_steps=1, action="warn"), shown, [])
    with MetricsWriter(tmp_path, "rl") as metrics:
        health.open(metrics)
        for step in range(5):
            metrics.write(step + 1, IDLE)
            health.on_step(step, IDLE)
    assert len(shown) == 3  # at 1, 2 and 4 steps


class Wrong:
    """Engines and reward workers of a model that solves nothing."""

    async def run_group(self, params: Any, specs: Sequence[Any], on_move: Any) -> tuple[list[Episode], None]:
        await asyncio.sleep(0)
        return [replace(episode((call(0, 0, 3),)), id=spec.id) for spec in specs], None

    async def score(self, problem: Problem, episodes: Sequence[Episode], reference: object) -> list[Score]:
        return [Score(value=0.0, components={}, correct=False) for _ in episodes]


def test_a_filter_that_keeps_nothing_ends_the_wait_for_a_batch(tmp_path: Path) -> None:
    recorded: list[str] = []
    config = stage(patience_groups=7)
    admission = Admission(groups_per_step=2, staleness=0, total_steps=9)
    health, parts = watch(config, [], recorded), Wrong()
    source = GroupSource(
        params=default_params("sequential"),
        problems=[Problem("0", "any", {})],
        prompt_of=lambda problem: Prompt("1"),
        terms=(),
        sampler=ProblemSampler(1, 0),
        seed=0,
    )

    async def scenario() -> None:
        with (
            MetricsWriter(tmp_path, "rl") as metrics,
            Ledger.open(tmp_path / "ledger.sqlite") as ledger,
        ):
            ledger.open_stage("rl", step=0, next_group=0)
            health.open(metrics)
            groups = GroupRunner(config, source, admission, parts, parts, ledger, health.on_group)  # type: ignore[arg-type]
            with pytest.raises(StalledRun, match=r"none of the last 7 groups .*7 all wrong"):
                await asyncio.wait_for(groups.wait_for_batch(), 20)
            assert groups.counts.filtered >= 7 and groups.counts.kept == 0
            await groups.cancel()

    asyncio.run(scenario())
    assert [
        "last 2 groups" in recorded[0],
        "last 4 groups" in recorded[1],
        "last 7 groups" in recorded[2],
    ] == [True] * 3
    (row,) = read_metrics(tmp_path / "metrics.jsonl")
    assert row == {"stage": "rl", "step": 0, "health/no_signal": 7.0}
