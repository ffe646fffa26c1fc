"""Layouts of multiple choice. Choices are written as lines "A. ...", and the gold answer is a letter."""

import hashlib
from collections.abc import Sequence
from typing import Any

from data.tasks.dataset.reading import Reading, RowError, text_prompt
from data.tasks.rows import Row
from data.text.prompt import Prompt

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def gpqa(row: Row) -> Reading | None:
    """GPQA: `Question`, `Correct Answer`, `Incorrect Answer 1` to `3`. The choices are put in the order of
    their SHA-256 with the question: the same everywhere, and the right one is at each letter equally often.
    """
    wrong = sorted(name for name in row if name.startswith("Incorrect Answer"))
    if "Question" not in row or "Correct Answer" not in row or not wrong:
        return None
    question = text_prompt(row["Question"], "Question").text
    texts = [_choice(row[name], name) for name in ("Correct Answer", *wrong)]
    order = sorted(texts, key=lambda text: hashlib.sha256(f"{question}\n{text}".encode()).digest())
    return _reading(question, order, order.index(texts[0]))


def mmlu(row: Row) -> Reading | None:
    """MMLU: `question`, `choices` (a list), `answer` (index from 0, or a letter)."""
    if not {"question", "choices", "answer"} <= row.keys() or not isinstance(row["choices"], list):
        return None
    texts = [_choice(text, "choices") for text in row["choices"]]
    labels = list(_LETTERS[: len(texts)])
    answer = row["answer"]
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(texts):
        return _reading(text_prompt(row["question"], "question").text, texts, answer)
    return _labelled(row["question"], texts, labels, answer)


def arc(row: Row) -> Reading | None:
    """ARC: `question`, `choices: {text, label}`, `answerKey`."""
    choices = row.get("choices")
    if not {"question", "answerKey"} <= row.keys() or not isinstance(choices, dict):
        return None
    texts, labels = choices.get("text"), choices.get("label")
    if not isinstance(texts, list) or not isinstance(labels, list) or len(texts) != len(labels):
        raise RowError("`choices` must have lists `text` and `label` of one length")
    return _labelled(row["question"], [_choice(text, "choices") for text in texts], labels, row["answerKey"])


def _labelled(question: Any, texts: Sequence[str], labels: Sequence[Any], answer: Any) -> Reading:
    if answer not in labels:
        raise RowError(f"its answer {answer!r} is none of the choices {', '.join(map(str, labels))}")
    return _reading(text_prompt(question, "question").text, texts, list(labels).index(answer))


def _choice(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise RowError(f"{name!r} must be text, found {value!r}")
    return value.strip()


def _reading(question: str, texts: Sequence[str], right: int) -> Reading:
    if not 2 <= len(texts) <= len(_LETTERS) or len(set(texts)) < len(texts):
        raise RowError(f"must have 2 to {len(_LETTERS)} choices, each of them once")
    lines = [f"{letter}. {text}" for letter, text in zip(_LETTERS, texts, strict=False)]
    return Reading(
        prompt=Prompt("\n".join([question.rstrip(), "", *lines])),
        answer=_LETTERS[right],
        fields={"letters": _LETTERS[: len(texts)]},
    )
