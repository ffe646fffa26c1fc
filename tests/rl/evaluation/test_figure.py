from pathlib import Path
from typing import Any

import pytest

from data.episodes.trajectory import ThreadOutcome
from rl.evaluation.figure import (
    Curve,
    Progress,
    budget_curve,
    colour_of,
    curves,
    draw_figure,
    progress_of,
    style_of,
)
from rl.evaluation.outcomes import Evaluation, Outcome
from rl.evaluation.summary import accuracy_within


def outcome(problem: str, correct: bool | None, critical: int, sample: int = 0) -> Outcome:
    return Outcome(
        problem_id=problem,
        sample=sample,
        correct=correct,
        total_tokens=critical,
        critical_tokens=critical,
        critical_seconds=0.0,
        threads=0,
        unique_threads=0,
        forked=False,
        depth=0,
        outcome=ThreadOutcome.RETURNED,
        answered=bool(correct),
    )


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def test_curve_by_hand() -> None:
    # p: solved with 10 and with 30 tokens; q: wrong with 5, solved with 20; r: could not be graded.
    outcomes = [
        outcome("p", True, 10),
        outcome("p", True, 30, sample=1),
        outcome("q", False, 5),
        outcome("q", True, 20, sample=1),
        outcome("r", None, 1),
    ]
    assert budget_curve(outcomes, (0, 9, 10, 20, 29, 30, 99)) == (0.0, 0.0, 0.25, 0.5, 0.5, 0.75, 0.75)


def test_curve_agrees_with_the_summary() -> None:
    outcomes = [outcome(f"p{index}", index % 3 > 0, 7 * index % 50) for index in range(60)]
    budgets = (0, 5, 14, 21, 49)
    expected = [accuracy_within(outcomes, budget) for budget in budgets]
    assert budget_curve(outcomes, budgets) == pytest.approx(expected)


def test_curves_share_one_grid_with_a_line_for_each_seed() -> None:
    def run(critical: int) -> Evaluation:
        return Evaluation(sampled=(outcome("p", True, critical),))

    short, long = curves({"a": {"sft": {0: run(3)}, "rl": {0: run(5), 1: run(7)}}})
    assert short.budgets == long.budgets == tuple(range(9))  # one beyond the longest episode
    assert short.seeds == ((0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0),)
    assert len(long.seeds) == 2
    assert (short.critical_mean, long.critical_mean) == (3.0, 6.0)


def test_progress_takes_the_records_that_have_validation() -> None:
    records: list[dict[str, Any]] = [
        {"stage": "rl", "step": 0, "validation/accuracy": 0.25, "validation/critical_tokens": 60.0},
        {"stage": "rl", "step": 1, "reward/mean": 0.1},
        {"stage": "rl", "step": 2, "validation/accuracy": 0.5, "validation/critical_tokens": 90.0},
    ]
    found = progress_of(records, arm="spawn_join", seed=3)
    assert (found.steps, found.accuracy, found.critical) == ((0, 2), (0.25, 0.5), (60.0, 90.0))


def test_picture_is_written_and_does_not_change(tmp_path: Path) -> None:
    drawn = [
        Curve(
            arm=arm,
            stage_name=stage,
            budgets=(0, 1, 2),
            seeds=((0.0, 0.1, 0.2), (0.0, 0.2, 0.3)),
            critical_mean=1,
        )
        for arm in ("spawn_join", "sequential", "other")
        for stage in ("sft", "rl")
    ]
    steps = [
        Progress(arm="spawn_join", seed=0, steps=(0, 2, 4), accuracy=(0.2, 0.3, 0.4), critical=(60, 80, 90)),
        Progress(arm="spawn_join", seed=1, steps=(0, 4), accuracy=(0.2, 0.4), critical=(60, 90)),
        Progress(arm="sequential", seed=0, steps=(), accuracy=(), critical=()),
    ]
    first, second = tmp_path / "first" / "a.png", tmp_path / "b.png"
    for path in (first, second):
        draw_figure(path, curves=drawn, progress=steps, problems=1_024)
    assert png_size(first) == (2_000, 800)
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in first.parent.iterdir()] == ["a.png"]


def test_picture_without_anything_to_show(tmp_path: Path) -> None:
    draw_figure(tmp_path / "a.png", curves=[], progress=[], problems=0)
    assert png_size(tmp_path / "a.png") == (2_000, 800)


def test_arms_differ_in_colour_and_stages_in_style_whatever_their_names() -> None:
    names = ["x", "spawn_join", "y", "sequential"]
    assert len({colour_of(name, names) for name in names}) == 4
    drawn = [
        Curve(arm=arm, stage_name=stage_name, budgets=(0,), seeds=((0.0,),), critical_mean=0)
        for arm, stages in (("a", ("start", "warmup", "rl2")), ("b", ("warmup",)))
        for stage_name in stages
    ]
    assert [style_of(curve, drawn) for curve in drawn] == ["--", ":", "-", "-"]
