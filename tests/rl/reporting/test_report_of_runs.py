"""The report of runs that were really trained: curriculum, staleness, reward models, evaluations."""

from pathlib import Path

import pytest

from rl.reporting.gather import gather_run
from rl.reporting.panels import stage_charts
from rl.reporting.render import render_report

pytestmark = pytest.mark.slow


def test_a_curriculum_with_reward_models(stale: Path, reference: Path) -> None:
    """Nothing is left out; every stage that ran has its curves, and every rl stage its episodes and costs."""
    runs = [gather_run(stale, "stale"), gather_run(reference, "reference")]
    assert [run.gaps for run in runs] == [(), ()]
    stages = {stage.name: stage for stage in runs[0].stages}
    for name in ("rl", "ahead", "everything", "guided"):
        part = stages[name]
        assert part.rl is not None and part.rl.rewards and part.rl.costs and part.rl.staleness and part.told
        assert len(part.rl.rewards) == part.steps, "a point for each step"
        assert {told.why for told in part.told} >= {"best", "worst"}
        titles = {chart.title for chart in stage_charts(name, runs)}
        assert titles >= {"Reward", "Accuracy in training", "Entropy", "Length of an episode", "Activation"}
    assert max(stages["ahead"].rl.staleness, default=0) <= 2  # type: ignore[union-attr]
    # Episodes of a stage that rewards steps show where, and exact labels where there are any.
    assert any(told.shown.placed for told in stages["guided"].told)
    assert any(told.steps for told in stages["rl"].told)
    for name in ("prm", "orm"):
        assert any(chart.title.lower().startswith("loss") for chart in stage_charts(name, runs))
    assert [comparison.stage for comparison in runs[1].comparisons] == ["eval"]
    page = render_report(runs)
    assert len(page.encode()) < 10e6
    assert "Keys that differ between the runs" in page and "The recipes are equal." not in page
    assert page.count("<script") == 1
