import math

from rl.drawing.sparkline import sparkline


def test_each_value_between_lowest_and_highest() -> None:
    # (1 - 0) / 7 of 7 blocks above the lowest is the second, 2/7 the third.
    assert sparkline([0, 1, 2, 7], 10) == "▁▂▃█"


def test_values_in_a_row_share_a_character() -> None:
    assert sparkline([0, 2, 6, 8], 2) == "▁█"  # means 1 and 7
    assert sparkline([0, 0, 0, 3, 7, 7], 3) == "▁▃█"  # means 0, 1.5 and 7: 1.5 of 7 is nearest to the third


def test_equal_missing_and_no_values() -> None:
    assert sparkline([5, 5], 9) == "▄▄"
    assert sparkline([0, math.nan, math.inf, 1], 4) == "▁  █"
    assert sparkline([math.nan], 3) == " " and sparkline([], 3) == sparkline([1, 2], 0) == ""
