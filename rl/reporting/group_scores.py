"""Rewards and accuracy by training step, with intervals, from the groups in a run's ledger."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from data.ledger.schema import reading
from rl.evaluation.bootstrap import mean_interval
from rl.reporting.contents import GroupScores, StepMean

MOST_POINTS = 150
"""Most points of a curve; with more steps, a point stands for several in a row."""
RESAMPLES = 400
_GROUPS = """
SELECT groups.step, COUNT(reward), AVG(reward), AVG(correct), MAX(reward) - MIN(reward)
FROM groups JOIN episodes USING (group_id)
WHERE stage = :stage AND state IN ('consumed', 'filtered')
GROUP BY group_id
ORDER BY groups.step, group_index
"""
_STATES = "SELECT state, COUNT(*) FROM groups WHERE stage = :stage GROUP BY state ORDER BY state"


def read_groups(ledger: Path, stage: str) -> tuple[list[GroupScores], dict[str, int]]:
    """-> the scored groups, and the number of groups by state. Raises ConfigError without a good ledger."""
    with reading(ledger) as connection:
        rows = connection.execute(_GROUPS, {"stage": stage}).fetchall()
        states = dict(connection.execute(_STATES, {"stage": stage}).fetchall())
    return [
        GroupScores(step=step, graded=graded, reward=reward, correct=correct, spread=spread or 0.0)
        for step, graded, reward, correct, spread in rows
    ], states


def step_means(
    groups: Sequence[GroupScores], value: Callable[[GroupScores], float | None], *, most: int = MOST_POINTS
) -> tuple[StepMean, ...]:
    """Mean of a value of the trained groups, by step; groups without one are left out.

    Example: steps 0 to 5 with `most` 3 give points at 0.5, 2.5 and 4.5, each over the groups of two steps.
    """
    by_step: dict[int, list[float]] = {}
    for group in groups:
        found = value(group)
        if group.step is not None and found is not None:
            by_step.setdefault(group.step, []).append(found)
    steps = sorted(by_step)
    size = -(-len(steps) // most) if steps else 1
    means = []
    for first in range(0, len(steps), size):
        inside = steps[first : first + size]
        values = np.array([item for step in inside for item in by_step[step]], dtype=np.float64)
        interval = mean_interval(values, samples=RESAMPLES, seed=0)
        middle = (inside[0] + inside[-1]) / 2
        means.append(StepMean(step=middle, mean=float(values.mean()), interval=interval))
    return tuple(means)


def without_signal(groups: Sequence[GroupScores]) -> tuple[tuple[float, float], ...]:
    """(step, share of its trained groups whose rewards are all equal), by step.

    Example: two groups of step 0, with rewards (1, 1) and (0, 1), give (0, 0.5).
    """
    by_step: dict[int, list[bool]] = {}
    for group in groups:
        if group.step is not None and group.graded:
            by_step.setdefault(group.step, []).append(group.spread == 0.0)
    return tuple((step, sum(flags) / len(flags)) for step, flags in sorted(by_step.items()))
