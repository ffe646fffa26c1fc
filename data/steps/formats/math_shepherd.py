"""Math-Shepherd's text (arXiv 2312.08935): problem and steps in one, each step ended by a tag.

    {"input": "How many? Step 1: 2 + 2 = 4 ки\\nStep 2: The answer is: 5 ки",
     "label": "How many? Step 1: 2 + 2 = 4 +\\nStep 2: The answer is: 5 -", "task": "GSM8K"}
The problem ends where the last "Step 1:" before the first tag begins. "Step n: " is no part of a step where
all steps have it. A step whose tag stands in the label, too, has no label.
"""

import re
from collections.abc import Mapping
from typing import Any

from data.steps.formats.row import RIGHT, WRONG, RowError, StepFormat, StepRow, hard_labels, text_of

TAG = "\u043a\u0438"
"""The step tag, two Cyrillic letters."""
_LABELS: Mapping[str, float | None] = {"+": RIGHT, "-": WRONG, TAG: None}
_FIRST = "Step 1:"


class MathShepherdFormat(StepFormat):
    """Rows as in the data set `peiyi9979/Math-Shepherd`."""

    name = "math_shepherd"

    def recognises(self, row: Mapping[str, Any]) -> bool:
        return {"input", "label"} <= row.keys() and TAG in str(row["input"])

    def read(self, row: Mapping[str, Any], id: str) -> list[StepRow]:
        text, labelled = text_of(row, "input"), text_of(row, "label")
        *parts, rest = text.split(TAG)
        if not parts or rest.strip():
            raise RowError("input", f"must end with the step tag {TAG!r}", f"put {TAG!r} behind every step")
        place = parts[0].rfind(_FIRST)
        if place < 0:
            raise RowError("input", f"has no {_FIRST!r} before its first tag", "number the steps from 1")
        labels: list[float | None] = []
        at = 0
        for number, part in enumerate(parts):
            at += len(part)
            mark = next((mark for mark in _LABELS if labelled.startswith(mark, at)), None)
            if not labelled.startswith(part, at - len(part)) or mark is None:
                raise RowError(
                    "label",
                    f"is not `input` with + or - in place of {TAG!r} (step {number + 1})",
                    "write the same text in both",
                )
            labels.append(_LABELS[mark])
            at += len(mark)
        if labelled[at:].strip():
            raise RowError("label", "goes on behind its last mark", "write the same text in both")
        steps = _unnumbered([parts[0][place:].strip(), *(part.strip() for part in parts[1:])])
        return [
            StepRow(
                id=str(row.get("id", id)),
                prompt=parts[0][:place].strip(),
                steps=tuple(steps),
                labels=tuple(labels),
                source=str(row.get("task", "")),
            )
        ]

    def write(self, row: StepRow) -> dict[str, Any]:
        hard_labels(row, self.name)
        if any(TAG in step for step in row.steps):
            raise RowError("steps", f"hold the step tag {TAG!r}", "write another format, or remove the tag")
        marks = {label: mark for mark, label in _LABELS.items()}
        steps = [f"Step {number}: {step}" for number, step in enumerate(row.steps, start=1)]
        if _FIRST in steps[0][len(_FIRST) :]:
            raise RowError("steps", f"hold {_FIRST!r}, where the problem ends", "write another format")
        return {
            "input": f"{row.prompt} " + "\n".join(f"{step} {TAG}" for step in steps),
            "label": f"{row.prompt} "
            + "\n".join(f"{step} {marks[label]}" for step, label in zip(steps, row.labels, strict=True)),
            "task": row.source,
        }


def _unnumbered(steps: list[str]) -> list[str]:
    heads = [re.match(rf"Step {number}:\s*", step) for number, step in enumerate(steps, start=1)]
    if any(head is None for head in heads):
        return steps
    return [step[head.end() :] for step, head in zip(steps, heads, strict=True) if head is not None]
