"""Which answers a vote counts together."""

import pytest

from data.text.normalise import NORMALISERS, NormaliserName

SAME: list[tuple[NormaliserName, list[str]]] = [
    ("exact", ["42"]),
    ("text", ["Paris", " paris. ", '"PARIS"', "paris\n"]),
    ("number", ["42", " 42.0", "+42", "42.", "84/2", "$42", "42%", "42.00"]),
    ("number", ["1000", "1,000", "1 000", "1,000.0"]),
    ("number", ["-1/2", "-0.5", "−.5"]),
    ("math", [r"\frac{1}{2}", "0.5", "1/2", r"$\dfrac{1}{2}$", r"\boxed{\frac12}", "x = 1/2", ".50"]),
    ("math", [r"\left(3, \frac{\pi}{2}\right)", r"(3,\frac{\pi}{2})", r"\text{}(3, \tfrac{\pi}{2})"]),
    ("math", ["90", r"90^\circ", r"90^{\circ}", r"90\%"]),
    ("choice", ["B", "(B)", "b.", "**B**", "B) 12 apples"]),
]
DIFFERENT: list[tuple[NormaliserName, str, str]] = [
    ("exact", "42", "42.0"),
    ("text", "42", "42.0"),
    ("number", "42", "-42"),
    ("number", "1/0", "1"),
    ("number", "12", "1,2"),
    ("number", "9" * 70, "9" * 71),
    ("math", r"\sqrt{2}", "2"),
    ("math", "x=1", "x=2"),
    ("math", r"\frac{1}{2}", r"\frac{1}{3}"),
    ("choice", "B", "C"),
    ("choice", "Both", "B"),
]


@pytest.mark.parametrize(("name", "answers"), SAME)
def test_answers_that_are_counted_together(name: NormaliserName, answers: list[str]) -> None:
    assert len({NORMALISERS[name](answer) for answer in answers}) == 1


@pytest.mark.parametrize(("name", "left", "right"), DIFFERENT)
def test_answers_that_are_not(name: NormaliserName, left: str, right: str) -> None:
    assert NORMALISERS[name](left) != NORMALISERS[name](right)


@pytest.mark.parametrize("name", list(NORMALISERS))
def test_any_text_has_a_normal_form_at_once(name: NormaliserName) -> None:
    for unit in ("", "9", "\\frac{", "{", "\\boxed{", "(", " ", "1,", "9**", "\\text{a}", "x=", "$"):
        NORMALISERS[name](unit * 20_000)
