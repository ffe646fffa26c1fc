"""Text for Qwen2.5-Math-PRM (arXiv 2501.07301): a conversation whose answer has a token behind every step.

    {"messages": [{"role": "system", ...}, {"role": "user", "content": "..."},
                  {"role": "assistant", "content": "step<extra_0>step<extra_0>"}], "labels": [true, 0.4]}
The model's score of a step is read at the token behind it. `labels` may be missing: the text is what the
model is asked.
"""

from collections.abc import Mapping
from typing import Any

from data.steps.formats.row import RowError, StepFormat, StepRow, labels_of, written_label

SEPARATOR = "<extra_0>"
SYSTEM = r"Please reason step by step, and put your final answer within \boxed{}."
"""The system message that the model was trained with."""
_FIX = "write a user message and, last, an assistant message"


class SeparatorFormat(StepFormat):
    """Conversations with Qwen's separator behind every step."""

    name = "qwen"

    def recognises(self, row: Mapping[str, Any]) -> bool:
        messages = row.get("messages")
        return isinstance(messages, list) and bool(messages) and SEPARATOR in str(messages[-1])

    def read(self, row: Mapping[str, Any], id: str) -> list[StepRow]:
        contents = _contents(row.get("messages"))
        if "user" not in contents or "assistant" not in contents:
            raise RowError("messages", "have no user or no assistant", _FIX)
        *steps, rest = contents["assistant"].split(SEPARATOR)
        if not steps or rest.strip():
            raise RowError("messages", f"do not end with {SEPARATOR}", f"put {SEPARATOR} behind every step")
        labels: tuple[float | None, ...] = (None,) * len(steps)
        if row.get("labels") is not None:
            labels = labels_of(row, "labels", len(steps))
        return [
            StepRow(
                id=str(row.get("id", id)), prompt=contents["user"], steps=tuple(steps), labels=labels,
                source=str(row.get("source", "")),
            )
        ]  # fmt: skip

    def write(self, row: StepRow) -> dict[str, Any]:
        if any(SEPARATOR in step for step in row.steps):
            raise RowError("steps", f"hold the separator {SEPARATOR}", "write another format, or remove it")
        written: dict[str, Any] = {
            "id": row.id,
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": row.prompt},
                {"role": "assistant", "content": "".join(f"{step}{SEPARATOR}" for step in row.steps)},
            ],
        }
        if row.is_labelled:
            written["labels"] = [written_label(label) for label in row.labels]
        if row.source:
            written["source"] = row.source
        return written


def _contents(messages: Any) -> dict[str, str]:
    """Role -> content of a conversation of one turn."""
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        raise RowError("messages", "must be a list of messages", _FIX)
    contents = {str(each.get("role")): each.get("content") for each in messages}
    if len(contents) < len(messages):
        raise RowError("messages", "have more than one turn", _FIX)
    if not all(isinstance(content, str) for content in contents.values()):
        raise RowError("messages", "have a content that is no text", _FIX)
    return {role: str(content) for role, content in contents.items()}
