"""Reliability bins and their error against figures worked out by hand."""

import pytest

from rl.evaluation.calibration import expected_calibration_error, reliability


def test_two_bins() -> None:
    """0.1 in the lower bin, never right: gap 0.1. 0.9 and 0.8 in the upper, half right: gap 0.35."""
    lower, upper = reliability((0.9, 0.8, 0.1), (1, 0, 0), bins=2)
    assert (lower.count, lower.mean_score, lower.mean_label) == (1, 0.1, 0)
    assert (upper.count, upper.mean_label) == (2, 0.5) and upper.mean_score == pytest.approx(0.85)
    assert expected_calibration_error((lower, upper)) == pytest.approx(0.8 / 3)


def test_scores_that_are_calibrated() -> None:
    assert expected_calibration_error(reliability([0.75] * 4, [1, 1, 1, 0])) == pytest.approx(0)


def test_soft_labels_and_the_borders_of_bins() -> None:
    """0.5 belongs to the upper of two bins, and so does 1."""
    bins = reliability((0.5, 1.0, 0.0), (0.4, 0.8, 0.1), bins=2)
    assert [each.count for each in bins] == [1, 2]
    # Lower: |0.1 - 0| = 0.1. Upper: mean score 0.75, mean label 0.6: 0.15. ECE (0.1 + 2 * 0.15) / 3.
    assert expected_calibration_error(bins) == pytest.approx(0.4 / 3)


def test_nothing_to_calibrate() -> None:
    bins = reliability((), ())
    assert len(bins) == 10 and expected_calibration_error(bins) == 0


@pytest.mark.parametrize(("scores", "labels"), [((0.5,), ()), ((1.5,), (1,)), ((0.5,), (float("nan"),))])
def test_what_has_no_calibration(scores: tuple[float, ...], labels: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="one label"):
        reliability(scores, labels)
