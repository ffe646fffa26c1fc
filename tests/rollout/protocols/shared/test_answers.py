"""How a demonstration writes an answer behind what it has said."""

import pytest

from data.text.answer_format import AnswerFormatConfig
from rollout.protocols.shared.answers import AnswerFormat, ResultFormat


@pytest.mark.parametrize(
    ("kind", "said", "written"),
    [
        ("last_number", ("7 + 5 =", "12"), ()),
        ("last_number", ("7 + 5 = 12 ",), ()),
        ("last_number", ("7 + 5 = 12.",), ("12",)),  # ends a sentence: the number is not the end of the text
        ("last_number", ("12 = 7 + 5",), ("12",)),
        ("last_number", ("112",), ("12",)),
        ("last_number", (), ("12",)),
        ("whole", ("12",), ()),
        ("whole", ("7 + 5 = 12",), ("12",)),
        ("boxed", ("7 + 5 = 12",), ("\\boxed{12}",)),
        ("after", ("Final Answer: 12",), ("Final Answer: 12",)),
        ("tags", ("7 + 5 = 12",), ("<answer>", "12")),
    ],
)
def test_an_answer_is_written_once(kind: str, said: tuple[str, ...], written: tuple[str, ...]) -> None:
    assert AnswerFormat(AnswerFormatConfig(kind=kind)).words("12", said) == written


def test_a_result_too() -> None:
    result = ResultFormat(AnswerFormatConfig(kind="last_number"))
    assert result.words("12", ("7 + 5 = 12",)) == ()
    assert result.words(None, ("12",)) == ("(no result)",)
