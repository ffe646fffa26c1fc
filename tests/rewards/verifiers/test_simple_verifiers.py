"""gsm8k, exact, numeric, choice, json and the user's own function, each in a real process."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rewards.verifiers.base import Outcome, OutcomeKind
from rewards.verifiers.choice import chosen

CORRECT, WRONG = OutcomeKind.CORRECT, OutcomeKind.WRONG
NO_ANSWER, NO_GOLD, FAULT = OutcomeKind.ANSWER_UNPARSABLE, OutcomeKind.GOLD_UNPARSABLE, OutcomeKind.FAULT
Verify = Callable[..., Outcome]


@pytest.mark.parametrize(
    ("gold", "answer", "kind"),
    [
        ("She pays 9 * 8 = 72.\n#### 72", "72", CORRECT),
        ("#### 1,000", "so it is 1000.", CORRECT),
        ("#### 72", "first 72, then 71", WRONG),
        ("#### 72", "71 #### 72", CORRECT),
        ("#### -5", "it is -5", CORRECT),
        ("#### 5", "9-4 = 9-5", CORRECT),
        ("#### 18", "$18.00", CORRECT),
        ("#### 0.5", "1/2", CORRECT),
        ("#### 72", "no number", NO_ANSWER),
        ("none", "72", NO_GOLD),
    ],
)
def test_gsm8k(verify: Verify, gold: str, answer: str, kind: OutcomeKind) -> None:
    assert verify(gold, answer, name="gsm8k").kind is kind


@pytest.mark.parametrize(
    ("gold", "answer", "keys", "kind"),
    [
        ("a b", " a  b\n", {}, CORRECT),
        ("a b", "a  b", {"ignore_space": False}, WRONG),
        ("Yes", "yes", {}, WRONG),
        ("Yes", "yes", {"ignore_case": True}, CORRECT),
        (("5", "five"), "five", {}, CORRECT),
        ("a", " ", {}, NO_ANSWER),
        ((), "a", {}, NO_GOLD),
    ],
)
def test_exact(
    verify: Verify, gold: str | tuple[str, ...], answer: str, keys: dict[str, bool], kind: OutcomeKind
) -> None:
    assert verify(gold, answer, name="exact", **keys).kind is kind


@pytest.mark.parametrize(
    ("gold", "answer", "keys", "kind"),
    [
        ("3.1416", "3.14", {"relative": 1e-3}, CORRECT),  # 0.0016 <= 0.0031416
        ("3.1416", "3.14", {"relative": 1e-4}, WRONG),  # 0.0016 > 0.00031416
        ("0", "0.1", {"absolute": 0.1}, CORRECT),  # as written: the float 0.1 is more than 1/10
        ("0", "0.1000001", {"absolute": 0.1}, WRONG),
        ("1e-12", "2e-12", {}, WRONG),
        ("50%", "0.5", {}, CORRECT),
        ("5", "five", {}, NO_ANSWER),
        ("five", "5", {}, NO_GOLD),
    ],
)
def test_numeric(verify: Verify, gold: str, answer: str, keys: dict[str, float], kind: OutcomeKind) -> None:
    assert verify(gold, answer, name="numeric", **keys).kind is kind


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"), ("b", "B"), ("(B)", "B"), ("**B.**", "B"), (r"\text{B}", "B"), ("$B$", "B"),
        ("B) 12 apples", "B"), ("Answer: B", "B"), ("A or B", None), ("A dog, so C", "C"), ("", None),
        ("X", None), ("The answer is (D).", "D"), ("none of them", None),
    ],
)  # fmt: skip
def test_letters(text: str, letter: str | None) -> None:
    assert chosen(text, "ABCD") == letter


def test_choice(verify: Verify) -> None:
    assert verify("B", "(b)", name="choice").kind is CORRECT
    assert verify("B", "C", name="choice").kind is WRONG
    assert verify("B", "A or B", name="choice").kind is NO_ANSWER
    assert verify("12", "B", name="choice").kind is NO_GOLD


@pytest.mark.parametrize(
    ("gold", "answer", "compare", "kind"),
    [
        ('{"a": 1, "b": [2]}', '{"b": [2.0], "a": 1}', "equal", CORRECT),
        ('{"a": 1}', '{"a": true}', "equal", WRONG),
        ('{"a": 1}', 'here:\n```json\n{"a": 1}\n```', "equal", CORRECT),
        ('{"a": 1}', '{"a": 1, "b": 2}', "equal", WRONG),
        ('{"a": 1}', '{"a": 1, "b": 2}', "contains", CORRECT),
        ('{"a": 1, "b": "x"}', '{"a": 7, "b": "y"}', "keys", CORRECT),
        ('{"a": 1, "b": "x"}', '{"a": "7", "b": "y"}', "keys", WRONG),
        ('{"a": 1}', "{'a': 1}", "equal", NO_ANSWER),
        ('{"a": 1}', '{"a": NaN}', "equal", NO_ANSWER),
        ('{"a": 1}', '{"a": 2, "a": 1}', "equal", NO_ANSWER),
        ('{"a": 1}', "[" * 19_000, "equal", NO_ANSWER),
        ("{", "{}", "equal", NO_GOLD),
        ("[1]", "{}", "contains", NO_GOLD),
    ],
)
def test_json(verify: Verify, gold: str, answer: str, compare: str, kind: OutcomeKind) -> None:
    assert verify(gold, answer, name="json", compare=compare).kind is kind


FUNCTIONS = """
import asyncio
import numpy as np

def plain(answer, gold): return answer == gold
async def awaited(answer, golds, question, fields):
    await asyncio.sleep(0)
    return 0.25 if fields["k"] == 1 else 1.0
def forgotten(answer): return asyncio.sleep(0, True)
def lists(answers, golds): return [a == g[0] for a, g in zip(answers, golds)]
def one_for_all(answers): return 1.0
def one_in_list(answers): return [1.0]
def array(answers): return np.ones(len(answers))
def zero_dimensions(answers): return np.array(1.0)
def coroutines(answers): return [asyncio.sleep(0) for _ in answers]
def numpy_scalar(answer): return np.float32(0.5)
def numpy_bool(answer): return np.bool_(True)
def tensor(answer): return np.array(1.0)
def none(answer): return None
def nan(answer): return float("nan")
def above(answer): return 1.5
def text(answer): return "True"
def listed(answer): return [1.0]
def almost(answer): return 1 - 1e-7
def partly(answer): return 0.99
def other(response): return True
"""


@pytest.mark.medium
@pytest.mark.parametrize(
    ("function", "kind", "score", "reason"),
    [
        ("plain", CORRECT, 1.0, ""),
        ("awaited", WRONG, 0.25, ""),
        ("forgotten", CORRECT, 1.0, ""),  # what a plain function hands on is awaited, too
        ("lists", CORRECT, 1.0, ""),
        ("array", CORRECT, 1.0, ""),
        ("numpy_scalar", WRONG, 0.5, ""),
        ("numpy_bool", CORRECT, 1.0, ""),
        ("tensor", CORRECT, 1.0, ""),
        ("almost", CORRECT, 1 - 1e-7, ""),
        ("partly", WRONG, 0.99, ""),
        ("none", NO_GOLD, None, "returned None"),
        ("one_for_all", FAULT, None, "returned float 1.0 for 2 answers, not a list"),
        ("one_in_list", FAULT, None, "returned 1 results for 2 answers"),
        ("zero_dimensions", FAULT, None, "for 2 answers, not a list"),
        ("coroutines", FAULT, None, "a coroutine that nobody awaits"),
        ("nan", FAULT, None, "returned float nan; return True, False, a number from 0 to 1"),
        ("above", FAULT, None, "returned float 1.5"),
        ("text", FAULT, None, "returned str 'True'"),
        ("listed", FAULT, None, "returned list [1.0]"),
        (
            "other",
            FAULT,
            None,
            "cannot start: ConfigError: f.py:other takes (response); it must take `answer`",
        ),
        ("absent", FAULT, None, "has no function 'absent'"),
    ],
)
def test_user_functions(
    verify: Verify,
    tmp_path_factory: pytest.TempPathFactory,
    function: str,
    kind: OutcomeKind,
    score: float | None,
    reason: str,
) -> None:
    file = tmp_path_factory.getbasetemp() / "f.py"
    file.write_text(FUNCTIONS)
    outcome = verify("a", "a", name="python", file=str(file), function=function, fields={"k": 1})
    assert (outcome.kind, outcome.score) == (kind, score), outcome
    assert reason in outcome.reason


def test_a_function_may_import_what_lies_beside_it(verify: Verify, tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("RIGHT = 'a'\n")
    (tmp_path / "own.py").write_text("from beside_it import RIGHT\ndef f(answer): return answer == RIGHT\n")
    assert verify((), "a", name="python", file=str(tmp_path / "own.py"), function="f").kind is CORRECT
