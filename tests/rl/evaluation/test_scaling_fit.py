"""ScaleRL's fit finds curves that were planted, and says when it foretells nothing."""

import numpy as np
import pytest

from rl.evaluation.scaling_fit import Sigmoid, fit_sigmoid, judge, scaling_of


def test_the_curve_by_hand() -> None:
    curve = Sigmoid(start=0.2, asymptote=0.8, midpoint=100.0, exponent=2.0)
    assert curve.at(0) == pytest.approx(0.2)
    assert curve.at(100) == pytest.approx(0.5)
    # (100 / 200)^2 = 1/4: 0.2 + 0.6 / 1.25 = 0.68.
    assert curve.at(200) == pytest.approx(0.68)


@pytest.mark.parametrize(
    "planted",
    [
        Sigmoid(start=0.2, asymptote=0.8, midpoint=100.0, exponent=2.0),
        Sigmoid(start=0.0, asymptote=0.5, midpoint=30.0, exponent=1.0),
        Sigmoid(start=-1.0, asymptote=2.0, midpoint=400.0, exponent=4.0),
    ],
)
def test_a_planted_curve_is_found_and_foretold(planted: Sigmoid) -> None:
    compute = [25.0 * step for step in range(41)]
    reward = [planted.at(at) for at in compute]
    found = fit_sigmoid(compute, reward)
    assert found.midpoint == pytest.approx(planted.midpoint, rel=0.05)
    assert found.exponent == pytest.approx(planted.exponent, rel=0.05)
    assert found.asymptote == pytest.approx(planted.asymptote, abs=0.02)
    judged = judge(compute[::-1], reward[::-1])
    assert judged is not None and (judged.fitted, judged.judged) == (21, 20)
    assert judged.error_judged < 0.02 < judged.error_constant + 0.02
    assert judged.compute == tuple(compute)


def test_with_noise_the_second_half_is_judged_by_what_the_fit_has_not_seen() -> None:
    planted, rng = Sigmoid(start=0.2, asymptote=0.7, midpoint=60.0, exponent=2.0), np.random.default_rng(1)
    compute = [10.0 * step for step in range(40)]
    reward = [planted.at(at) + 0.01 * float(rng.standard_normal()) for at in compute]
    judged = judge(compute, reward)
    assert judged is not None
    assert judged.error_fitted < 0.015 and judged.error_judged < 0.04
    assert judged.whole.asymptote == pytest.approx(0.7, abs=0.03)
    # A jump that nothing foretold.
    broken = judge(compute, reward[:20] + [value - 0.4 for value in reward[20:]])
    assert broken is not None and broken.error_judged > 0.3


def test_too_few_validations_have_no_fit() -> None:
    assert judge([1, 2, 3, 4, 5, 6], [0.1] * 6) is None
    assert scaling_of([{"step": step} for step in range(20)]) is None
    with pytest.raises(ValueError, match="at least 4"):
        fit_sigmoid([1, 2, 3], [0, 1, 2])
    found = scaling_of([{"step": step, "validation/accuracy": 0.5} for step in range(0, 80, 10)])
    assert found is not None and found.error_judged == pytest.approx(0, abs=1e-9)
    assert found.curve.at(1e9) == pytest.approx(0.5)
