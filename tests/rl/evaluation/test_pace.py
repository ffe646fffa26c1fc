"""The pace of a stage, from books written out by hand."""

import pytest

from rl.evaluation.pace import covered, measure_pace


def test_overlaps_count_once_and_nothing_outside_counts() -> None:
    assert covered([(5, 9), (0, 2), (1, 3)], 0, 6) == 4
    assert covered([(0, 10), (2, 3)], 4, 6) == 2
    assert covered([(0, 1)], 2, 3) == 0


def test_the_pace_of_two_steps() -> None:
    """Groups are sampled from 100 to 104 and 106 to 109; versions appear at 90 (the start), 105 and 110; the
    validation after step 1 takes half a second, so of ten seconds the engine works 4 + 0.5 + 3.
    """
    rows = {
        1: {
            "time/rollout_wait_s": 4.0,
            "time/learner_s": 0.5,
            "time/publish_s": 0.5,
            "time/validation_s": 0.5,
        },
        2: {"time/rollout_wait_s": 3.5, "time/learner_s": 0.5, "time/publish_s": 0.5},
    }
    found = measure_pace([(106.0, 109.0), (100.0, 104.0)], {0: 90.0, 1: 105.0, 2: 110.0}, rows)

    assert (found.seconds, found.steps, found.steps_per_hour) == (10.0, 2, 720.0)
    assert found.engine_idle == pytest.approx(0.25)
    assert found.learner_idle == pytest.approx(0.8)
    assert found.waits == pytest.approx(
        {"rollout": 0.75, "reward": 0.0, "learner": 0.1, "publish": 0.1, "validation": 0.0, "other": 0.05}
    )
