"""The parts of one row that a task needs, and the error of a row that lacks them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data.errors import ConfigError
from data.tasks.rows import parse_json
from data.text.prompt import Message, Prompt

_DEEPEST = 32
"""Deepest nesting of brackets in JSON text that is opened: it must fit into a problem's own line."""


class RowError(ConfigError):
    """A row that cannot become a problem. The message says what is wrong and what to do, not where."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a layout found in a row."""

    prompt: Prompt
    answer: Any = None
    """The gold answer as the row has it; `gold_texts` makes texts of it."""
    needs_answer: bool = True
    """Whether a row without an answer is wrong; not where the other columns say what is right."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields for the verifier besides the row's own columns."""


def gold_texts(value: Any, *, open_json: bool = False) -> tuple[str, ...]:
    """Accepted answers, by one rule for every layout.

    Text stays as it is, without the space around it; numbers and true/false are written as in JSON (5, 5.0,
    true); a list holds alternatives; with `open_json`, text that is JSON counts as what it spells.

    Raises:
        RowError: there is no answer, it is empty, or it is an object or a nested list.
    """
    if isinstance(value, str) and open_json:
        value = opened(value)
    values = value if isinstance(value, list) else [value]
    if not values:
        raise RowError("its answer is an empty list; give at least one accepted answer")
    texts = tuple(_text(item) for item in values)
    return tuple(dict.fromkeys(texts))


def _text(value: Any) -> str:
    if value is None:
        raise RowError("has no answer; give one, or remove the row")
    if isinstance(value, str):
        if not value.strip():
            raise RowError("its answer is empty; give one, or remove the row")
        return value.strip()
    if isinstance(value, bool | int | float):
        return json.dumps(value, allow_nan=False)
    kind = "an object" if isinstance(value, dict) else f"a {type(value).__name__} in a list"
    raise RowError(f"its answer is {kind}; name the text in it: columns: {{answer: column.key}}")


def opened(text: str) -> Any:
    """What a text of JSON spells; other text stays text, also with NaN or nested too deep for a problem."""
    try:
        return parse_json(text, deepest=_DEEPEST)
    except (ValueError, RecursionError):
        return text


def text_prompt(value: Any, name: str) -> Prompt:
    """A prompt of one text.

    Raises:
        RowError: the value is no text, or has nothing but space.
    """
    if not isinstance(value, str):
        raise RowError(f"{name!r} must be text, found {_shown(value)}")
    if not value.strip():
        raise RowError(f"{name!r} is empty; give a prompt, or remove the row")
    return Prompt(value)


def conversation(value: Any, name: str) -> Prompt:
    """The prompt of a list of messages: its last turn is the user's, what comes before is history.

    Raises:
        RowError: the list is empty, a message lacks role or text, or the last turn is not the user's.
    """
    if not isinstance(value, list) or not value:
        raise RowError(f"{name!r} must be a list of messages {{role, content}}, found {_shown(value)}")
    messages = [_message(item, f"{name}[{index}]") for index, item in enumerate(value)]
    last = messages[-1]
    if last.role != "user":
        raise RowError(
            f"{name!r} ends with a turn of {last.role!r}; the last turn must be the user's question"
        )
    if not last.content.strip():
        raise RowError(f"{name!r}: the last turn is empty; give a question, or remove the row")
    return Prompt(last.content, tuple(messages[:-1]))


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, dict) or not isinstance(value.get("role"), str) or not value["role"]:
        raise RowError(f"{where} must be an object with `role` and `content`, found {_shown(value)}")
    content = value.get("content")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        if not all(isinstance(part, str) for part in parts):
            raise RowError(f"{where} has a part that is not text (an image?); only text can be trained on")
        content = "".join(map(str, parts))
    if not isinstance(content, str):
        raise RowError(f"{where} must have text as `content`, found {_shown(content)}")
    return Message(value["role"], content)


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:60]
