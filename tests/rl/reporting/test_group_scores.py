"""Rewards by step, from groups, by hand."""

from pathlib import Path

import pytest
from ledger_lab import example_books

from rl.reporting.contents import GroupScores
from rl.reporting.group_scores import read_groups, step_means, without_signal


def group(step: int | None, reward: float | None, spread: float = 1.0) -> GroupScores:
    return GroupScores(
        step=step, graded=0 if reward is None else 2, reward=reward, correct=reward, spread=spread
    )


def test_means_by_step() -> None:
    groups = [group(0, 0.0), group(0, 1.0), group(1, 0.5), group(1, None), group(None, 9.0)]
    first, second = step_means(groups, lambda each: each.reward)
    assert (first.step, first.mean, first.interval) == (0, 0.5, (0.0, 1.0))
    assert (second.step, second.mean, second.interval) == (1, 0.5, (0.5, 0.5))


def test_many_steps_share_points() -> None:
    groups = [group(step, float(step)) for step in range(6)]
    found = step_means(groups, lambda each: each.reward, most=3)
    assert [(each.step, each.mean) for each in found] == [(0.5, 0.5), (2.5, 2.5), (4.5, 4.5)]
    assert step_means([], lambda each: each.reward) == ()


def test_groups_without_signal() -> None:
    groups = [
        group(0, 1.0, 0.0),
        group(0, 0.5),
        group(1, 0.0, 0.0),
        group(1, None, 0.0),
        group(None, 1.0, 0.0),
    ]
    assert without_signal(groups) == ((0, 0.5), (1, 1.0))


def test_what_a_ledger_says(tmp_path: Path) -> None:
    """Step 0 trained groups 0 (rewards 1, 0) and 2 (1, none), step 1 groups 3 (0, 0.25) and 4 (0, 0)."""
    example_books(tmp_path / "ledger.sqlite")
    groups, states = read_groups(tmp_path / "ledger.sqlite", "rl")
    assert states == {"consumed": 4, "filtered": 1, "running": 1}
    assert [(each.step, each.graded, each.reward, each.spread) for each in groups] == [
        (None, 2, 1.0, 0.0),
        (0, 2, 0.5, 1.0),
        (0, 1, 1.0, 0.0),
        (1, 2, 0.125, 0.25),
        (1, 2, 0.0, 0.0),
    ]
    assert groups[1].correct == pytest.approx(0.5)
