"""Math answers in a real verifier process: wrong ones that pass elsewhere, and right ones that fail."""

from collections.abc import Callable
from fractions import Fraction

import pytest

from rewards.verifiers.base import Outcome, OutcomeKind
from rewards.verifiers.math_text import last_box, read_math, split_unit
from rewards.verifiers.plain_numbers import equal_numbers, read_number

CORRECT, WRONG = OutcomeKind.CORRECT, OutcomeKind.WRONG
NO_ANSWER, NO_GOLD = OutcomeKind.ANSWER_UNPARSABLE, OutcomeKind.GOLD_UNPARSABLE

TABLE = [
    # Equal elsewhere at six decimals, by chains, sets, units and colons (Math-Verify #14, #41, #60).
    (r"\frac{1}{2004!}", r"\frac{1}{2006!}", WRONG),
    ("2^{-99}", "2^{-98}", WRONG),
    ("1-1/e", "1+1/e", WRONG),
    ("n=2,3,4", "n=1,2,3", WRONG),
    ("3x-y+13=0", "3x+4y+14=0", WRONG),
    ("4", r"4\sqrt2", WRONG),
    ("12:00", "1:00", WRONG),
    ("101", "a = b = 101", WRONG),
    ("1", "9=1", WRONG),
    (r"5 \text{ cm}", "5 m", WRONG),
    ("0", "10^{-400}", WRONG),
    ("1e-12", "2e-12", WRONG),
    (r"\pi", "3.14", WRONG),
    ("1/3", "0.33", WRONG),
    ("(1,2)", "(2,1)", WRONG),
    ("[1,2)", "[1,2]", WRONG),
    ("1,2", "1", WRONG),
    ("2x", "2", WRONG),
    ("x", "|x|", WRONG),
    ("x>2", "x<2", WRONG),
    ("x=5", "y=5", WRONG),
    # Lost elsewhere: bare LaTeX, emphasis, equal roots, text around digits (#29, #37, #56, #64, #74, #76).
    ("2", r"\boxed{2}", CORRECT),
    (r"1 - \sqrt{2}", r"1-\sqrt{2}", CORRECT),
    ("73", "**73**", CORRECT),
    (r"\sqrt{1/n}", r"1/\sqrt{n}", CORRECT),
    ("13", r"\text{13}", CORRECT),
    (r"\frac{1}{2}", "0.5", CORRECT),
    (r"\frac12", r"\dfrac{1}{2}", CORRECT),
    ("1,234", "1234", CORRECT),
    ("1/3", "0.333333", CORRECT),
    (r"\pi", "3.14159", CORRECT),
    ("18", "18 dollars", CORRECT),
    (r"50\%", "0.5", CORRECT),
    (r"\{1,2\}", "2, 1", CORRECT),
    ("1,2", r"x=1 \text{ or } x=2", CORRECT),
    ("x^2+2x+1", "(x+1)^2", CORRECT),
    (r"x\ge 2", r"2\le x", CORRECT),
    ("2x+4=6", "x+2=3", CORRECT),
    (r"\sqrt{2}+\sqrt{3}", r"\sqrt{5+2\sqrt{6}}", CORRECT),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2.0\end{pmatrix}", CORRECT),
    ("5", "So the answer is $x = 5$.", CORRECT),
    ("3", r"first \boxed{4}, then \boxed{3}", CORRECT),
    # Two boxes, nested braces, an empty box; data errors are no wrong answers.
    (r"\frac{1}{2}", r"\boxed{\frac{1}{2}}", CORRECT),
    ("3", r"\boxed{}", NO_ANSWER),
    ("3", "", NO_ANSWER),
    ("", "3", NO_GOLD),
    ("{", "3", NO_GOLD),
    ("{", "{", NO_GOLD),
    # Refused before anything is worked out.
    ("3", "9**9**9**9", NO_ANSWER),
    ("3", "9^{9^{9^{9}}}", NO_ANSWER),
    ("3", "200000!", NO_ANSWER),
    ("3", "\\frac{" * 3000, NO_ANSWER),
    ("3", "\\frac{" * 200_000, NO_ANSWER),
    ("3", "(" * 19_000, NO_ANSWER),
    ("3", "9" * 19_000, NO_ANSWER),
]


@pytest.mark.medium
@pytest.mark.parametrize(("gold", "answer", "kind"), TABLE)
def test_table(verify: Callable[..., Outcome], gold: str, answer: str, kind: OutcomeKind) -> None:
    outcome = verify(gold, answer, name="math")
    assert outcome.kind is kind, outcome
    assert outcome.score == {CORRECT: 1.0, WRONG: 0.0}.get(kind)


def test_every_gold_verifies_against_itself(verify: Callable[..., Outcome]) -> None:
    golds = {gold for gold, _, kind in TABLE if kind is not NO_GOLD}
    assert {gold: verify(gold, gold, name="math").kind for gold in golds} == dict.fromkeys(golds, CORRECT)


def test_one_readable_gold_of_several_is_enough(verify: Callable[..., Outcome]) -> None:
    assert verify(("{", "5"), "5", name="math").kind is CORRECT
    assert verify(("{", "5"), "6", name="math").kind is WRONG
    assert verify(("{", "}"), "6", name="math").kind is NO_GOLD
    assert verify((), "6", name="math").kind is NO_GOLD


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-5", Fraction(-5)), ("1,234.50", Fraction(2469, 2)), ("3/4", Fraction(3, 4)), ("$18", Fraction(18)),
        ("1.5e-7", Fraction(3, 20_000_000)), (r"2 \times 10^{-12}", Fraction(2, 10**12)),
        (".5", Fraction(1, 2)), ("12,34", None), ("3/0", None), ("1e999999999", None), ("", None),
        ("-", None),
        ("1.2.3", None), ("½", None),
    ],
)  # fmt: skip
def test_plain_numbers(text: str, value: Fraction | None) -> None:
    number = read_number(text)
    assert (None if number is None else number.value) == value


def test_a_decimal_needs_six_digits_to_stand_for_another_number() -> None:
    def equal(first: str, second: str) -> bool:
        one, other = read_number(first), read_number(second)
        assert one is not None and other is not None
        return equal_numbers(one, other)

    assert equal("1/3", "0.333333") and equal("2/3", "0.666667") and equal("0.5", "1/2")
    assert not equal("1/3", "0.33333") and not equal("2/3", "0.666666") and not equal("1000000", "1000000.4")
    assert not equal("2e-30", "1e-30") and equal("0.0000123456", "12.3456e-6")


def test_text_before_the_parser() -> None:
    assert last_box(r"\boxed{1} and \boxed{\frac{a}{b}}") == r"\frac{a}{b}"
    assert last_box(r"\boxed{1") is None
    assert read_math(r"so $x = \dfrac12$.") == r"x = \frac{1}{2}"
    assert split_unit(r"12 \text{ cm}^2") == ("12", "cm^2")
    assert split_unit("18 dollars") == ("18", "dollar")
    assert split_unit("2x") == ("2x", "")
