"""Whether an output is the expected one: pure functions."""

from decimal import Decimal, InvalidOperation
from typing import Any

_LONGEST_NUMBER = 400


def same_text(output: str, expected: str) -> bool:
    """Equal up to white space at line ends and empty lines at the end; numbers may be written differently
    (1.50 and 1.5).

    Numbers are compared exactly, without a tolerance, as LiveCodeBench does.
    """
    left = [line.split() for line in output.rstrip().split("\n")]
    right = [line.split() for line in expected.rstrip().split("\n")]
    if left == right:
        return True
    return len(left) == len(right) and all(
        len(a) == len(b) and all(_same_token(x, y) for x, y in zip(a, b, strict=True))
        for a, b in zip(left, right, strict=True)
    )


def _same_token(one: str, other: str) -> bool:
    if one == other:
        return True
    if max(len(one), len(other)) > _LONGEST_NUMBER:
        return False
    try:
        return Decimal(one) == Decimal(other)
    except InvalidOperation:
        return False


def same_value(result: Any, expected: Any) -> bool:
    """Equal as JSON: tuples are lists, keys of dictionaries are texts, 1 equals 1.0, but True does not equal
    1.
    """
    if isinstance(expected, list | tuple):
        same = isinstance(result, list | tuple) and len(result) == len(expected)
        return same and all(same_value(a, b) for a, b in zip(result, expected, strict=True))
    if isinstance(expected, dict):
        if not isinstance(result, dict) or len(result) != len(expected):
            return False
        named = {str(key): value for key, value in result.items()}
        return all(
            str(key) in named and same_value(named[str(key)], value) for key, value in expected.items()
        )
    if isinstance(expected, bool) or isinstance(result, bool):
        return result is expected
    return type(result) in (int, float, str, type(None)) and bool(result == expected)
