"""Numbers written plainly, read exactly: no floating point, so that 0.1 is one tenth and 1e-12 is not 0."""

import re
from dataclasses import dataclass
from fractions import Fraction

_LARGEST_EXPONENT = 1_000
_MOST_DIGITS = 1_000
_NUMBER = re.compile(
    r"""(?P<sign>[-+]?)\s*[$€£¥]?\s*
    (?: (?P<grouped>\d{1,3}(?:(?:,|\{,\}|\\,|[ ])\d{3})+) | (?P<whole>\d*) )
    (?: \.(?P<decimals>\d*) )?
    (?: \s*(?:[eE]|(?:\*|×|\\times|\\cdot)\s*10\s*(?:\^|\*\*))\s*\{?\s*(?P<exponent>[-+]?\d+)\s*\}? )?
    (?: \s*/\s*(?P<denominator>\d+) )?
    \s*(?P<percent>\\?%|percent)?""",
    re.VERBOSE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainNumber:
    """A number and how it was written."""

    value: Fraction
    """What stands there, a percent sign left aside."""
    places: int | None
    """Digits behind the point, less the exponent; None for a number without a point."""
    digits: int
    """Number of significant digits."""
    percent: bool

    @property
    def values(self) -> tuple[Fraction, ...]:
        """What it may mean: 50% is 50 to some and 1/2 to others."""
        return (self.value, self.value / 100) if self.percent else (self.value,)


def read_number(text: str) -> PlainNumber | None:
    """The number that a text is, or None.

    Whole numbers, decimals, quotients, powers of ten, a currency sign in front, a percent sign behind, groups
    of three digits: "-5", "1,234.50", "3/4", "$18", "1.5e-7", "2 \\times 10^{-12}", "50\\%".
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None or len(text) > _MOST_DIGITS:
        return None
    whole = re.sub(r"\D", "", match["grouped"] or match["whole"] or "")
    decimals = match["decimals"] or ""
    exponent = int(match["exponent"] or 0) if len(match["exponent"] or "") < 6 else _LARGEST_EXPONENT + 1
    if not whole + decimals or abs(exponent) > _LARGEST_EXPONENT:
        return None
    value = Fraction(int(whole + decimals), 10 ** len(decimals)) * Fraction(10) ** exponent
    if match["denominator"] is not None:
        if decimals or exponent or int(match["denominator"]) == 0:
            return None
        value /= int(match["denominator"])
    return PlainNumber(
        value=-value if match["sign"] == "-" else value,
        places=len(decimals) - exponent if decimals else None,
        digits=len((whole + decimals).lstrip("0")),
        percent=match["percent"] is not None,
    )


LEAST_DIGITS = 6
"""Significant digits from which a rounded decimal stands for the number it was rounded from."""


def equal_numbers(first: PlainNumber, second: PlainNumber) -> bool:
    """Whether two numbers are equal, or one is a decimal of six digits or more that the other rounds to.

    Example: 1/3 equals 0.333333 and not 0.333; 0.5 equals 1/2; 2e-30 does not equal 1e-30.
    """
    return any(
        one == other or rounds_to(one, second) or rounds_to(other, first)
        for one in first.values
        for other in second.values
    )


def rounds_to(value: Fraction, decimal: PlainNumber) -> bool:
    """Whether `decimal` has enough digits and is `value` rounded to its places."""
    if decimal.places is None or decimal.digits < LEAST_DIGITS:
        return False
    return abs(value - decimal.value) <= Fraction(1, 2) / Fraction(10) ** decimal.places
