"""What a request's body may hold: every field is applied, ignored or refused, with the field's name."""

import json
from pathlib import Path
from typing import Any

import pytest

from data.text.prompt import Message
from rl.serving.api_error import ApiError
from rl.serving.asked import Asked, Endpoint, parse
from rl.serving.fields import (
    APPLIED,
    CHAT_ONLY,
    COMPLETIONS_ONLY,
    IGNORED,
    NEUTRAL,
    REFUSED,
    fields_table,
)

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "1 2"}]}
TEXT: dict[str, Any] = {"model": "m", "prompt": "1 2"}


def asked(endpoint: Endpoint = "chat", **fields: Any) -> Asked:
    return parse(endpoint, json.dumps({**(CHAT if endpoint == "chat" else TEXT), **fields}).encode())


def refused(endpoint: Endpoint = "chat", **fields: Any) -> tuple[str | None, str | None]:
    with pytest.raises(ApiError) as error:
        asked(endpoint, **fields)
    assert error.value.status == 400 and error.value.message
    return error.value.code, error.value.param


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_every_field_of_the_tables_is_taken_or_refused_as_they_say(endpoint: Endpoint) -> None:
    foreign = COMPLETIONS_ONLY if endpoint == "chat" else CHAT_ONLY
    for name in IGNORED:
        if name in foreign:
            assert refused(endpoint, **{name: "x"}) == ("unknown_parameter", name)
        else:
            assert asked(endpoint, **{name: "x"}).fields.model == "m"
    for name, (values, _) in NEUTRAL.items():
        if name in foreign:
            assert refused(endpoint, **{name: values[0]}) == ("unknown_parameter", name)
            continue
        for value in values:
            asked(endpoint, **{name: value})
        assert refused(endpoint, **{name: {"other": 1}}) == ("unsupported_value", name)
        assert refused(endpoint, **{name: not values[0]}) == ("unsupported_value", name)
    for name in REFUSED:
        assert refused(endpoint, **{name: {}})[1] == name
    for name in {*APPLIED, *IGNORED, *NEUTRAL, *REFUSED}:
        if name not in ("model", "messages", "prompt"):
            assert asked(endpoint, **{name: None}).stops == (), "null is absent"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": None}, ("missing_required_parameter", "model")),
        ({"messages": None}, ("missing_required_parameter", "messages")),
        ({"messages": []}, ("invalid_value", "messages")),
        ({"messages": "hello"}, ("invalid_type", "messages")),
        ({"messages": [{"role": "tool", "content": "x"}]}, ("invalid_value", "messages.0.role")),
        ({"messages": [{"role": "user"}]}, ("missing_required_parameter", "messages.0.content")),
        ({"messages": [{"role": "assistant", "content": "x"}]}, ("invalid_value", "messages")),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
         ("unsupported_value", "messages.0.content.0")),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [1]}]},
         ("unsupported_parameter", "messages.0.tool_calls")),
        ({"n": 0}, ("invalid_value", "n")),
        ({"n": 129}, ("invalid_value", "n")),
        ({"n": "3"}, ("invalid_type", "n")),
        ({"n": True}, ("invalid_type", "n")),
        ({"seed": 2**63}, ("invalid_value", "seed")),
        ({"temperature": -0.1}, ("invalid_value", "temperature")),
        ({"temperature": "hot"}, ("invalid_type", "temperature")),
        ({"stop": ["a"] * 5}, ("invalid_value", "stop")),
        ({"stop": ""}, ("invalid_value", "stop")),
        ({"max_completion_tokens": 0}, ("invalid_value", "max_completion_tokens")),
        ({"max_tokens": 5, "max_completion_tokens": 5}, ("invalid_value", "max_tokens")),
        ({"reasoning_effort": "much"}, ("invalid_value", "reasoning_effort")),
        ({"logprobs": 1}, ("invalid_type", "logprobs")),
        ({"stream_options": {"include_usage": True}}, ("invalid_value", "stream_options")),
        ({"stream": True, "stream_options": {"x": 1}}, ("unknown_parameter", "stream_options.x")),
        ({"braid": {"width": 3}}, ("unknown_parameter", "braid.width")),
        ({"braid": {"events": True}}, ("invalid_value", "braid.events")),
        ({"braid": {"group": -1}}, ("invalid_value", "braid.group")),
        ({"frobnicate": 1}, ("unknown_parameter", "frobnicate")),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_its_field(
    fields: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert refused(**fields) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"prompt": None}, ("missing_required_parameter", "prompt")),
        ({"prompt": []}, ("invalid_value", "prompt")),
        ({"prompt": [1, 2]}, ("unsupported_value", "prompt.0")),
        ({"prompt": 5}, ("invalid_type", "prompt")),
        ({"prompt": ["1"] * 3, "n": 50}, ("invalid_value", "n")),
        ({"logprobs": 2}, ("unsupported_value", "logprobs")),
        ({"logprobs": True}, ("invalid_type", "logprobs")),
        ({"messages": []}, ("unknown_parameter", "messages")),
    ],
)
def test_completions_refuse_their_own(fields: dict[str, Any], expected: tuple[str, str]) -> None:
    assert refused("completions", **fields) == expected


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"model": NaN}', b'{"a": ' + b"[" * 100_000, b'"\\ud800"',
     b'{"model": "m", "messages": [{"role": "user", "content": "\\udfff"}]}', b"1" * 5000],
)  # fmt: skip
def test_a_body_that_is_no_text_or_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as error:
        parse("chat", body)
    assert (error.value.status, error.value.code) == (400, "invalid_json")
    json.dumps(error.value.body).encode()


def test_a_conversation_becomes_a_problem_and_the_turns_before_it() -> None:
    turns = [
        {"role": "developer", "content": "be brief"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "1 "}, {"type": "text", "text": "2"}],
            "name": "a",
        },
        {"role": "assistant", "content": "3", "reasoning_content": "hm", "refusal": None, "tool_calls": None},
        {"role": "user", "content": "<answer> 4"},
    ]
    (prompt,) = asked(messages=turns).prompts
    assert prompt.text == "<answer> 4"
    assert prompt.history == (
        Message("system", "be brief"),
        Message("user", "1 2"),
        Message("assistant", "3"),
    )


def test_several_prompts_are_taken_in_their_order() -> None:
    found = asked("completions", prompt=["1", "2"], n=2, stop="x", logprobs=0, seed=5)
    assert [prompt.text for prompt in found.prompts] == ["1", "2"]
    assert (found.stops, found.logprobs, found.seed) == (("x",), True, 5)


def test_the_documentation_has_the_table_of_fields() -> None:
    document = (Path(__file__).resolve().parents[3] / "docs/serve.md").read_text()
    assert fields_table() in document, "python -m rl.serving.fields prints it"
