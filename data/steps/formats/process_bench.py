"""ProcessBench (arXiv 2412.06559): where the first wrong step is.

    {"id": "gsm8k-0", "generator": "...", "problem": "...", "steps": ["...", ...],
     "final_answer_correct": false, "label": 1}
`label` is the index of the first wrong step, -1 when there is none. Nothing is said of the steps behind it.
"""

from collections.abc import Mapping
from typing import Any

from data.steps.formats.row import RIGHT, WRONG, RowError, StepFormat, StepRow, hard_labels, text_of, texts_of


class ProcessBenchFormat(StepFormat):
    """Rows as in the data set `Qwen/ProcessBench`."""

    name = "processbench"

    def recognises(self, row: Mapping[str, Any]) -> bool:
        return {"problem", "steps", "label"} <= row.keys()

    def read(self, row: Mapping[str, Any], id: str) -> list[StepRow]:
        steps = texts_of(row, "steps")
        label = row.get("label")
        if isinstance(label, bool) or not isinstance(label, int) or not -1 <= label < len(steps):
            raise RowError(
                "label", f"must be -1 or the index of one of {len(steps)} steps, found {label!r}",
                "count steps from 0",
            )  # fmt: skip
        right = len(steps) if label < 0 else label
        known = [*[RIGHT] * right, *([WRONG] if label >= 0 else [])]
        correct = row.get("final_answer_correct")
        return [
            StepRow(
                id=str(row.get("id", id)),
                prompt=text_of(row, "problem"),
                steps=steps,
                labels=(*known, *[None] * (len(steps) - len(known))),
                answer_correct=correct if isinstance(correct, bool) else None,
                source=str(row.get("generator", "")),
            )
        ]

    def write(self, row: StepRow) -> dict[str, Any]:
        hard_labels(row, self.name)
        if not row.is_labelled:
            raise RowError("labels", "are all missing", "label the steps first")
        return {
            "id": row.id,
            "generator": row.source,
            "problem": row.prompt,
            "steps": list(row.steps),
            "final_answer_correct": row.answer_correct,
            "label": row.first_error,
        }
