"""Exact comparison of parsed mathematics, as sympy objects.

Numbers are compared exactly or at 50 digits, relative to their size; never at a fixed number of decimals,
under which 1/2004! equals 1/2006!. Formulas with variables are compared at eight fixed points, at 50 digits,
which needs no simplification; where fewer than three have real values, sympy simplifies the difference.
"""

import hashlib
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import sympy
from sympy.core.relational import Relational

from rewards.verifiers.plain_numbers import PlainNumber, rounds_to

DIGITS = 50
_SAME = sympy.Float(10) ** -40
_POINTS = 8
_ENOUGH = 3
"""Points at which both formulas must have a value."""
MOST_BITS = 200_000
"""Largest whole number that is worked out, in bits."""


class TooLargeError(ValueError):
    """A number with more digits than anybody can compare."""


def exact(value: Any) -> Any:
    """The object with its decimals as quotients, 0.1 as 1/10, and the values of `x = 1 or x = 2` as a set."""
    if isinstance(value, sympy.FiniteSet) and all(isinstance(part, sympy.Eq) for part in value):
        names = {part.lhs for part in value}
        if len(names) == 1 and isinstance(next(iter(names)), sympy.Symbol):
            value = sympy.FiniteSet(*(part.rhs for part in value))
    floats = value.atoms(sympy.Float)
    return (
        value.xreplace({number: sympy.Rational(f"{number:.15g}") for number in floats}) if floats else value
    )


def ensure_small(value: Any) -> None:
    """Raises TooLargeError for a power or factorial that would take for ever, such as 9^(9^9)."""
    _bits(value)


def same(gold: Any, answer: Any) -> bool:
    """Whether the answer is the gold value.

    Raises:
        TooLargeError: a number has too many digits.
    """
    gold, answer = (value.as_immutable() if _is_matrix(value) else value for value in (gold, answer))
    ensure_small(gold)
    ensure_small(answer)
    return _same(exact(gold), exact(answer))


def rounds(value: Any, decimal: PlainNumber) -> bool:
    """Whether a number without variables rounds to a written decimal of enough digits."""
    if decimal.places is None or getattr(value, "free_symbols", True) or not isinstance(value, sympy.Expr):
        return False
    ensure_small(value)
    number = exact(value).evalf(DIGITS)
    return bool(number.is_Float) and rounds_to(Fraction(str(sympy.Rational(str(number)))), decimal)


def _same(gold: Any, answer: Any) -> bool:
    if gold == answer:
        return True
    for kind, compare in _KINDS:
        if isinstance(gold, kind) or isinstance(answer, kind):
            return isinstance(gold, kind) and isinstance(answer, kind) and compare(gold, answer)
    if isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr):
        symbols = gold.free_symbols | answer.free_symbols
        return _same_formula(gold, answer, symbols) if symbols else _same_number(gold, answer)
    if type(gold) is not type(answer) or len(gold.args) != len(answer.args) or not gold.args:
        return False
    if isinstance(gold, sympy.Union | sympy.And | sympy.Or):
        return _same_set(gold.args, answer.args)
    return all(map(_same, gold.args, answer.args))


def _is_matrix(value: Any) -> bool:
    return isinstance(value, sympy.MatrixBase)


def _same_matrix(gold: Any, answer: Any) -> bool:
    return bool(gold.shape == answer.shape) and all(map(_same, gold, answer))


def _same_set(gold: Any, answer: Any) -> bool:
    left = list(answer)
    if len(list(gold)) != len(left):
        return False
    for value in gold:
        found = next((index for index, other in enumerate(left) if _same(value, other)), None)
        if found is None:
            return False
        del left[found]
    return True


def _same_relation(gold: Any, answer: Any) -> bool:
    """Equal up to a constant factor of `left - right`, which must be positive for an inequality."""
    if isinstance(gold, sympy.Gt | sympy.Ge):
        gold = gold.reversed
    if isinstance(answer, sympy.Gt | sympy.Ge):
        answer = answer.reversed
    if gold.func is not answer.func:
        return False
    if not all(isinstance(side, sympy.Expr) for side in (*gold.args, *answer.args)):
        return all(map(_same, gold.args, answer.args)) or all(map(_same, gold.args, reversed(answer.args)))
    first, second = gold.lhs - gold.rhs, answer.lhs - answer.rhs
    symbols = first.free_symbols | second.free_symbols
    ratios = [one / other for one, other in _at_points(first, second, symbols) if other != 0]
    if len(ratios) < _ENOUGH or any(abs(ratio / ratios[0] - 1) > _SAME for ratio in ratios if ratios[0] != 0):
        return False
    equality = isinstance(gold, sympy.Eq | sympy.Ne)
    return bool(ratios[0] != 0 and (equality or ratios[0] > 0))


_KINDS: tuple[tuple[type, Callable[[Any, Any], bool]], ...] = (
    (sympy.MatrixBase, _same_matrix),
    (sympy.FiniteSet, _same_set),
    (Relational, _same_relation),
)


def _same_number(gold: Any, answer: Any) -> bool:
    if gold.is_Rational and answer.is_Rational:
        return bool(gold == answer)
    first, second = gold.evalf(DIGITS), answer.evalf(DIGITS)
    if not (first.is_number and second.is_number) or first.has(sympy.nan) or second.has(sympy.nan):
        return False
    if first.is_infinite or second.is_infinite:
        return bool(first == second)
    size = max(abs(first), abs(second))
    if size == 0 or first == 0 or second == 0 or size < _SAME**10:
        return bool(sympy.simplify(gold - answer) == 0)
    return bool(abs(first - second) <= _SAME * size)


def _same_formula(gold: Any, answer: Any, symbols: set[Any]) -> bool:
    pairs = _at_points(gold, answer, symbols)
    if len(pairs) < _ENOUGH:
        return bool(sympy.simplify(gold - answer) == 0)
    return all(abs(one - other) <= _SAME * max(abs(one), abs(other), _SAME) for one, other in pairs)


def _at_points(first: Any, second: Any, symbols: set[Any]) -> list[tuple[Any, Any]]:
    """Values of both where they are real numbers, or at all points when one has the imaginary unit."""
    named = sorted(symbols, key=str)
    pairs = []
    for point in range(_POINTS):
        values = {symbol: _coordinate(str(symbol), point) for symbol in named}
        one, other = (formula.subs(values).evalf(DIGITS) for formula in (first, second))
        complex_too = first.has(sympy.I) or second.has(sympy.I)
        if all(
            value.is_number and value.is_finite and (value.is_real or complex_too) for value in (one, other)
        ):
            pairs.append((one, other))
    return pairs


def _coordinate(name: str, point: int) -> Any:
    """A quotient that depends on the variable's name and the point; at every fourth point it is negative."""
    digest = hashlib.sha256(f"{name}/{point}".encode()).digest()
    value = sympy.Rational(int.from_bytes(digest[:3], "big") % 997 + 17, 113 + digest[3] % 7)
    return -value if point % 4 == 3 else value


def _bits(value: Any) -> float:
    """An upper bound of log2 of a number's size, or 64 for what has variables. Raises TooLargeError."""
    if isinstance(value, sympy.Integer):
        return float(int(value).bit_length())
    if isinstance(value, sympy.Rational):
        return float(max(int(value.p).bit_length(), int(value.q).bit_length()))
    if not value.args:
        return 8.0
    parts = [_bits(part) for part in value.args]
    bits = sum(parts) + len(parts)
    if isinstance(value, sympy.Pow) and value.args[1].is_number:
        if parts[1] > 40:
            raise TooLargeError("a power in it is too large to work out")
        size = abs(value.args[1].evalf(10))
        bits = max(parts[0], 1.0) * float(size) if size.is_Float else 64.0
        if not value.args[0].is_number:
            bits = min(bits, float(size))
    elif isinstance(value, sympy.factorial):
        if value.args[0].is_number and parts[0] > 16:
            raise TooLargeError("a factorial in it is too large to work out")
        bits = 16.0 * 2 ** min(parts[0], 16.0) if value.args[0].is_number else 64.0
        bits = min(bits, MOST_BITS)
    if bits > MOST_BITS:
        raise TooLargeError("a number in it is too large to work out")
    return bits
