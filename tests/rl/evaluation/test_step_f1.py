"""ProcessBench's metric against figures worked out by hand."""

import pytest

from rl.evaluation.step_f1 import (
    Judged,
    Scored,
    StepF1Intervals,
    best_threshold,
    first_below,
    step_f1,
    step_f1_intervals,
    sweep,
)


def judged(*pairs: tuple[int, int]) -> list[Judged]:
    return [Judged(problem=str(i), label=label, prediction=found) for i, (label, found) in enumerate(pairs)]


def test_f1_of_a_half_and_three_quarters() -> None:
    """Two of four errors at their place (one too early, one not seen), one false alarm in four: 0.6."""
    found = step_f1(judged((2, 2), (0, 0), (3, 1), (1, -1), (-1, -1), (-1, -1), (-1, -1), (-1, 0)))
    assert (found.num_wrong, found.num_right, found.wrong, found.right) == (4, 4, 0.5, 0.75)
    assert found.f1 == pytest.approx(0.6)


def test_f1_of_nothing_found_is_zero() -> None:
    assert step_f1(judged((2, 1), (-1, 0))).f1 == 0.0


def test_f1_of_a_judge_that_never_finds_anything() -> None:
    """It is right about all right solutions, and still worth 0."""
    found = step_f1(judged((2, -1), (-1, -1), (-1, -1)))
    assert (found.wrong, found.right, found.f1) == (0.0, 1.0, 0.0)


def test_f1_takes_both_kinds_of_solutions() -> None:
    found = step_f1(judged((2, 2), (1, 1)))
    assert (found.wrong, found.right, found.f1) == (1.0, None, None)
    assert step_f1_intervals(judged((2, 2))) == StepF1Intervals(wrong=(1.0, 1.0), right=None, f1=None)


def test_the_first_score_below_the_threshold() -> None:
    assert first_below((0.9, 0.5, 0.2, 0.1), 0.5) == 2
    assert first_below((0.9, 0.5), 0.5) == -1
    assert first_below((), 0.5) == -1


SOLUTIONS = [
    Scored(problem="a", label=1, scores=(0.9, 0.3, 0.1)),
    Scored(problem="b", label=2, scores=(0.8, 0.6, 0.4)),
    Scored(problem="c", label=-1, scores=(0.9, 0.5)),
    Scored(problem="d", label=-1, scores=(0.7, 0.95)),
]


def test_the_sweep_tries_every_threshold_that_matters() -> None:
    """Just above 0.4, that is from 0.5 on down, all four are judged rightly."""
    swept = sweep(SOLUTIONS)
    assert [at for at, _ in swept][:-1] == [0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
    assert swept[-1][0] > 0.95 and swept[-1][1].right == 0.0
    at, best = best_threshold(swept)
    assert (at, best.f1) == (0.5, 1.0)
    # At 0.4: 0.3 is found, 0.4 is not; both right ones pass. 2 * 0.5 * 1 / 1.5.
    assert dict(swept)[0.4].f1 == pytest.approx(2 / 3)
    # At 0.6: c falls (0.5), the rest holds. 2 * 1 * 0.5 / 1.5.
    assert dict(swept)[0.6].f1 == pytest.approx(2 / 3)


def test_no_threshold_is_best_without_both_kinds() -> None:
    with pytest.raises(ValueError, match="solutions without one"):
        best_threshold(sweep(SOLUTIONS[:2]))


def test_intervals_hold_the_figure_and_shrink() -> None:
    """The interval of a share of 1/2 reaches 1.96 * 0.5 / sqrt(n) to both sides: 0.098 with n = 100."""
    few = judged(*[(1, 1), (1, 0), (-1, -1), (-1, 2)] * 25)
    many = judged(*[(1, 1), (1, 0), (-1, -1), (-1, 2)] * 400)
    narrow, wide = step_f1_intervals(many), step_f1_intervals(few)
    assert narrow.f1 is not None and wide.f1 is not None and wide.wrong is not None
    assert wide.f1[0] < 0.5 < wide.f1[1] and narrow.f1[0] < 0.5 < narrow.f1[1]
    assert wide.f1[1] - wide.f1[0] > 3 * (narrow.f1[1] - narrow.f1[0])
    # 50 wrong solutions: 1.96 * 0.5 / sqrt(50) = 0.139.
    assert wide.wrong == pytest.approx((0.5 - 0.139, 0.5 + 0.139), abs=0.025)


def test_solutions_of_one_problem_are_drawn_together() -> None:
    """Ten copies of each solution say no more than one of each."""
    once = judged((1, 1), (1, 0), (-1, -1), (-1, 2), (1, 1), (-1, -1))
    assert step_f1_intervals(once * 10).f1 == pytest.approx(step_f1_intervals(once).f1)
