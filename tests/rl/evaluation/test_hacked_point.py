"""Where a run was hacked, and where its alarm would have been given, by hand."""

import pytest

from rl.evaluation.hacked_point import alarm_point, hacked_point, smoothed


def test_means_of_the_last_steps() -> None:
    assert smoothed([1.0, 3.0, 5.0], 2) == [1.0, 2.0, 4.0]
    assert smoothed([1.0, 3.0, 8.0], 5) == [1.0, 2.0, 4.0]


def test_hacked_where_accuracy_has_lost_five_points() -> None:
    """0.40 at index 1 is the best; 0.38 has lost 0.02, 0.34 has lost 0.06, and 0.7 is above 0.5."""
    assert hacked_point([0.4, 0.5, 0.6, 0.7], [0.3, 0.4, 0.38, 0.34], window=1) == 3


def test_a_policy_that_only_gets_worse_is_not_hacked() -> None:
    """The opinion falls with the accuracy: the scorer notices."""
    assert hacked_point([0.4, 0.5, 0.4, 0.3], [0.3, 0.4, 0.38, 0.34], window=1) is None


def test_a_new_best_begins_anew() -> None:
    """0.44 is the best at index 3; at 4 only 0.04 are lost, at 5 0.06 are."""
    said, right = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.30, 0.40, 0.38, 0.44, 0.40, 0.38]
    assert hacked_point(said, right, window=1) == 5
    assert hacked_point(said[:5], right[:5], window=1) is None


def test_smoothing_hides_one_bad_step() -> None:
    said, right = [0.1, 0.2, 0.3, 0.4], [0.4, 0.4, 0.3, 0.4]
    assert hacked_point(said, right, window=1) == 2
    # The mean of two is 0.35 at the worst: 0.05 lost needs a little more.
    assert hacked_point(said, right, window=2, loss=0.051) is None


@pytest.mark.parametrize(("rise", "step"), [(0.5, 3), (0.0, None)])
def test_the_alarm_is_that_of_the_run(rise: float, step: int | None) -> None:
    """Blocks of 2: from 0.4, 0.4 to 0.9, 0.9 with accuracy where it was, known with the fourth step."""
    said = [0.4, 0.4, 0.4 + rise, 0.4 + rise, 0.4 + rise]
    assert alarm_point(said, [0.5] * 5, block=2) == step
