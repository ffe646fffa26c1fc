"""PRM800K as OpenAI published it (arXiv 2305.20050): several alternatives for a step, rated by people.

    {"question": {"problem": "..."}, "label": {"steps": [{"completions": [{"text": "...", "rating": 1}, ...],
     "human_completion": null, "chosen_completion": 0}, ...], "finish_reason": "found_error"}}
Read as in Qwen's and PURE's work: a rating of 1 or 0 is right, -1 is wrong, null is no label. One row is the
chosen path; each alternative that was rated and not chosen ends a row of its own, behind the chosen steps.
"""

from collections.abc import Mapping
from typing import Any

from data.steps.formats.row import RIGHT, WRONG, RowError, StepFormat, StepRow, hard_labels, text_of

_FIX = "take the file as published, one JSON object per line"
_RATINGS: Mapping[Any, float | None] = {1: RIGHT, 0: RIGHT, -1: WRONG, None: None}
Path = tuple[tuple[str, float | None], ...]


class Prm800kFormat(StepFormat):
    """Rows of the phase 1 and phase 2 files."""

    name = "prm800k"

    def recognises(self, row: Mapping[str, Any]) -> bool:
        label = row.get("label")
        return isinstance(row.get("question"), dict) and isinstance(label, dict) and "steps" in label

    def read(self, row: Mapping[str, Any], id: str) -> list[StepRow]:
        question, label = row.get("question"), row.get("label")
        if not isinstance(question, dict) or not isinstance(label, dict):
            raise RowError("question, label", "must be objects", _FIX)
        problem = text_of(question, "problem")
        steps = label.get("steps")
        if not isinstance(steps, list) or not steps:
            raise RowError("label.steps", "must be a list of at least one step", _FIX)
        paths = _paths(steps)
        name = str(row.get("id", id))
        return [
            StepRow(
                id=name if not number else f"{name}/{number}",
                prompt=problem,
                steps=tuple(text for text, _ in path),
                labels=tuple(rating for _, rating in path),
                source=self.name,
            )
            for number, path in enumerate(paths)
        ]

    def write(self, row: StepRow) -> dict[str, Any]:
        hard_labels(row, self.name)
        ratings = {RIGHT: 1, WRONG: -1, None: None}
        steps = [
            {
                "completions": [{"text": step, "rating": ratings[label], "flagged": False}],
                "human_completion": None,
                "chosen_completion": 0,
            }
            for step, label in zip(row.steps, row.labels, strict=True)
        ]
        ended = "solution" if row.first_error < 0 else "found_error"
        return {
            "id": row.id,
            "question": {"problem": row.prompt},
            "label": {"steps": steps, "finish_reason": ended},
        }


def _paths(steps: list[Any]) -> list[Path]:
    """The chosen path first, then one for each other alternative that has a rating."""
    chosen: Path = ()
    others: list[Path] = []
    for number, step in enumerate(steps):
        where = f"label.steps.{number}"
        if not isinstance(step, dict) or not isinstance(step.get("completions") or [], list):
            raise RowError(where, "must be an object with a list of completions", _FIX)
        rated = [_rated(each, f"{where}.completions") for each in step.get("completions") or []]
        choice = step.get("chosen_completion")
        if isinstance(choice, int) and not 0 <= choice < len(rated):
            raise RowError(f"{where}.chosen_completion", f"is {choice}, of {len(rated)} completions", _FIX)
        others += [
            (*chosen, each) for place, each in enumerate(rated) if place != choice and each[1] is not None
        ]
        if isinstance(choice, int):
            chosen = (*chosen, rated[choice])
        elif step.get("human_completion") is not None:
            chosen = (*chosen, _rated(step["human_completion"], f"{where}.human_completion"))
        else:
            break
    return [path for path in (chosen, *others) if path]


def _rated(completion: Any, where: str) -> tuple[str, float | None]:
    if not isinstance(completion, dict) or not isinstance(completion.get("text"), str):
        raise RowError(where, "must be objects with a text", _FIX)
    rating = completion.get("rating")
    if isinstance(rating, bool) or rating not in _RATINGS:
        raise RowError(where, f"has the rating {rating!r}, none of -1, 0, 1 and null", _FIX)
    return completion["text"], _RATINGS[rating]
