"""The curves of a stage."""

from typing import Any

import pytest

from rl.evaluation.scaling_fit import scaling_of
from rl.reporting.contents import RlPart, RunPart, StagePart, StepMean
from rl.reporting.panels import series, stage_charts, thinned


def run(label: str, kind: str, records: list[dict[str, Any]], rl: RlPart | None = None) -> RunPart:
    stage = StagePart(name="any", kind=kind, state="done", steps=2, records=tuple(records), rl=rl)
    return RunPart(label=label, path=label, recipe={}, stages=(stage,))


def test_thinned_points() -> None:
    points = ((0.0, 1.0), (1.0, 3.0), (2.0, 5.0))
    assert thinned(points, 2) == ((0.5, 2.0), (2.0, 5.0))
    assert thinned(points, 3) == points
    assert thinned((), 2) == ()


def test_series_of_a_metric() -> None:
    """Times stand apart in a record, and what JSON has no number for is counted."""
    records = [{"step": 1, "a": 2.0, "time": {"b_s": 3.0}}, {"step": 2, "a": "nan"}]
    assert series(records, "a") == (((1.0, 2.0),), 1)
    assert series(records, "b_s") == (((1.0, 3.0),), 0)
    assert series(records, "c") == ((), 0)


def test_an_rl_stage_of_any_name() -> None:
    records = [
        {"step": step, "learner/entropy": 0.5, "learner/reference_kl": 0.0, "share/activation": 0.0}
        for step in (1, 2)
    ]
    means = (StepMean(step=0, mean=0.5, interval=(0.25, 0.75)),)
    charts = stage_charts("any", [run("one", "rl", records, RlPart(rewards=means))])
    assert [chart.title for chart in charts] == ["Reward", "Entropy", "Activation"]
    # No reference is used, so it has no picture; that nobody forks is shown.
    assert charts[0].lines[0].band == ((0.25, 0.75),)
    assert charts[1].lines[0].points == ((1.0, 0.5), (2.0, 0.5))


def test_an_implicit_reward_model_has_a_picture() -> None:
    records = [{"step": 1, "implicit/loss": 0.69, "implicit/in_group": 0.5}]
    (chart,) = stage_charts("any", [run("one", "rl", records)])
    assert chart.title == "Implicit reward model"
    assert [line.points for line in chart.lines] == [((1.0, 0.69),), ((1.0, 0.5),)]


def test_without_a_ledger_rewards_come_from_the_metrics() -> None:
    (chart,) = stage_charts("any", [run("one", "rl", [{"step": 1, "reward/mean": 0.5}], RlPart())])
    assert chart.title == "Reward" and chart.lines[0].points == ((1.0, 0.5),) and chart.lines[0].band == ()


def test_runs_beside_each_other_have_their_own_colours() -> None:
    runs = [
        run(label, "rl", [{"step": 1, "tokens/total": 9.0, "tokens/critical": 5.0}]) for label in ("a", "b")
    ]
    (chart,) = stage_charts("any", runs)
    assert [line.label for line in chart.lines] == ["a: total", "a: critical", "b: total", "b: critical"]
    assert chart.lines[0].colour == chart.lines[1].colour != chart.lines[2].colour
    assert [line.dash for line in chart.lines] == ["", "5 3", "", "5 3"]


def test_other_stages_show_what_they_recorded() -> None:
    charts = stage_charts(
        "any", [run("one", "reward_model", [{"step": 1, "stage": "any", "auc": 0.5, "loss": 2.0}])]
    )
    assert [chart.title for chart in charts] == ["Loss", "Auc"]


def test_the_fit_of_scaling_is_drawn_beside_the_measured() -> None:
    """Nine validations on a sigmoid: the fit of the first five goes through all."""
    rewards = [0.2 + 0.6 / (1 + 4 / step) if step else 0.2 for step in range(9)]
    records = [{"step": step, "validation/accuracy": value} for step, value in enumerate(rewards)]
    charts = stage_charts("any", [run("one", "rl", records, RlPart(scaling=scaling_of(records)))])
    (chart,) = [chart for chart in charts if chart.title == "Scaling"]
    measured, fitted = chart.lines
    assert [value for _, value in measured.points] == pytest.approx(rewards)
    assert [value for _, value in fitted.points] == pytest.approx(rewards, abs=0.01)
