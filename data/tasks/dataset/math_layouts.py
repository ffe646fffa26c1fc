"""Layouts of mathematics: GSM8K, MATH, MATH-500, AIME and AMC."""

from typing import Any

from data.tasks.dataset.reading import Reading, RowError, text_prompt
from data.tasks.rows import Row
from data.text.answers import boxed

_GSM8K_MARK = "####"


def gsm8k(row: Row) -> Reading | None:
    """GSM8K: `question`, `answer` whose last line is "#### 72"; that number is the gold answer."""
    answer = row.get("answer")
    if "question" not in row or not isinstance(answer, str) or _GSM8K_MARK not in answer:
        return None
    return Reading(
        prompt=text_prompt(row["question"], "question"), answer=answer.rpartition(_GSM8K_MARK)[2].strip()
    )


def math(row: Row) -> Reading | None:
    """MATH: `problem`, `solution`; the content of the solution's last \\boxed{} is the gold answer."""
    if not {"problem", "solution"} <= row.keys() or "answer" in row:
        return None
    solution = row["solution"]
    place = boxed(solution) if isinstance(solution, str) else None
    if place is None:
        raise RowError(
            "its `solution` has no \\boxed{} answer; name the column of the answer: columns.answer"
        )
    return Reading(prompt=text_prompt(row["problem"], "problem"), answer=solution[slice(*place)])


def math_500(row: Row) -> Reading | None:
    """MATH-500 and most sets of problems: `problem`, `answer`."""
    if not {"problem", "answer"} <= row.keys():
        return None
    return Reading(prompt=text_prompt(row["problem"], "problem"), answer=row["answer"])


def aime(row: Row) -> Reading | None:
    """AIME and AMC: `problem` and `answer`, beside `year`, `url` or `ID`; answers are whole numbers, also
    where a table wrote 142 as 142.0.
    """
    names = {name.lower(): name for name in row}
    if not {"problem", "answer"} <= names.keys() or (not {"year", "url"} & names.keys() and "ID" not in row):
        return None
    return Reading(
        prompt=text_prompt(row[names["problem"]], names["problem"]), answer=_whole(row[names["answer"]])
    )


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
