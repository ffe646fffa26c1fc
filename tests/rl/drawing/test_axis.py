"""Round numbers on axes."""

import pytest

from rl.drawing.axis import nice_ticks, tick_text


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        (0, 230, 5, [0, 50, 100, 150, 200]),
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-3, 4, 4, [-2, 0, 2, 4]),
        (5, 5, 4, [5]),
    ],
)
def test_ticks(low: float, high: float, most: int, ticks: list[float]) -> None:
    assert nice_ticks(low, high, most) == pytest.approx(ticks)


def test_texts() -> None:
    assert [tick_text(value) for value in (0, 0.25, 1500, 2.5e-7, 2e6)] == [
        "0",
        "0.25",
        "1500",
        "2.5e-07",
        "2e+06",
    ]
