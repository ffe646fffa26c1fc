"""TRL's stepwise supervision: `prompt`, `completions`, `labels`.

    {"prompt": "...", "completions": ["step", "step"], "labels": [true, 0.4], ...}
A label is a bool or, where it is soft, a number; TRL 1.9 turned 0.7 into 0, so it is kept as it is here. A
step without a label has null. Further keys that are written: id, source, answer_correct,
question, call.
"""

from collections.abc import Mapping
from typing import Any

from data.steps.formats.row import StepFormat, StepRow, labels_of, text_of, texts_of, written_label


class TrlFormat(StepFormat):
    """Rows of `trl-lib/math_shepherd`, `trl-lib/prm800k` and the like."""

    name = "trl"

    def recognises(self, row: Mapping[str, Any]) -> bool:
        return {"prompt", "completions", "labels"} <= row.keys()

    def read(self, row: Mapping[str, Any], id: str) -> list[StepRow]:
        steps = texts_of(row, "completions")
        return [
            StepRow(
                id=str(row.get("id", id)),
                prompt=text_of(row, "prompt"),
                steps=steps,
                labels=labels_of(row, "labels", len(steps)),
                answer_correct=row.get("answer_correct"),
                source=str(row.get("source", "")),
                cut_off=row.get("cut_off") is True,
                question=str(row.get("question", "")),
                call=call if isinstance(call := row.get("call", 0), int) else 0,
            )
        ]

    def write(self, row: StepRow) -> dict[str, Any]:
        written: dict[str, Any] = {
            "id": row.id,
            "prompt": row.prompt,
            "completions": list(row.steps),
            "labels": [written_label(label) for label in row.labels],
        }
        if row.source:
            written["source"] = row.source
        if row.answer_correct is not None:
            written["answer_correct"] = row.answer_correct
        if row.question:
            written |= {"question": row.question, "call": row.call}
        return written
