"""A request's body, checked: which fields it has, and what they ask for."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from data.text.prompt import Message, Prompt
from rl.serving.api_error import invalid
from rl.serving.fields import APPLIED, CHAT_ONLY, COMPLETIONS_ONLY, IGNORED, NEUTRAL, REFUSED

Endpoint = Literal["chat", "completions"]
MOST_CHOICES = 128
"""Most choices of one request."""
_SEED_BITS = 53
"""Bits of a random seed: as many as a JavaScript client keeps."""
_LARGEST = 2**63
_Stop = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class _Body(BaseModel):
    """Base of what a body holds: strict, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class StreamOptions(_Body):
    """What the field `stream_options` may hold."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class BraidFields(_Body):
    """The extension field `braid`."""

    protocol: str | None = None
    """Protocol, as an alternative to `model: NAME:PROTOCOL`."""
    budgets: dict[str, Any] = Field(default_factory=dict)
    """Budgets of an episode, by the names of recipes."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Other settings of the protocol, by the names of recipes."""
    group: int = Field(default=0, ge=0, lt=_LARGEST)
    """Number of the (first) prompt among the problems of an evaluation: part of the seed text."""
    sample: int = Field(default=0, ge=0, lt=_LARGEST)
    """Number of the first choice among the samples of its prompt: part of the seed text."""
    events: bool = False
    """Whether a stream has the events of threads."""
    threads: bool = True
    """Whether a reply has the detail of threads."""
    record: bool = False
    """Whether a reply has the whole episode with every token."""


class Fields(_Body):
    """The applied fields of both endpoints, with their types."""

    model: str
    messages: list[dict[str, Any]] | None = Field(default=None, min_length=1, max_length=10_000)
    prompt: str | list[Any] | None = None
    n: int = Field(default=1, ge=1, le=MOST_CHOICES)
    seed: int | None = Field(default=None, ge=-_LARGEST, lt=_LARGEST)
    temperature: float = Field(default=1.0, ge=0, le=4)
    stop: _Stop | list[_Stop] = Field(default_factory=list, max_length=4)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=1_000_000_000)
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000_000)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    logprobs: bool | int | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    braid: BraidFields = BraidFields()


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a request asks for."""

    endpoint: Endpoint
    fields: Fields
    prompts: tuple[Prompt, ...]
    seed: int
    stops: tuple[str, ...]
    logprobs: bool

    @property
    def total_tokens(self) -> int | None:
        """The limit on an episode's sampled tokens; None when there is none."""
        return self.fields.max_completion_tokens or self.fields.max_tokens


def parse(endpoint: Endpoint, body: bytes) -> Asked:
    """Raises ApiError (400), with the field, for a body that is not a request of this endpoint."""
    given = _without_nulls(_json_object(body))
    for name in given:
        _ensure_known(endpoint, name)
    for name, (values, reason) in NEUTRAL.items():
        if name in given and not any(_same(given[name], value) for value in values):
            raise invalid(
                name, f"{name}: this server takes only {values[0]!r} ({reason}).", "unsupported_value"
            )
    fields = _validated(Fields, {name: given[name] for name in given if name in APPLIED})
    if fields.max_tokens is not None and fields.max_completion_tokens is not None:
        raise invalid("max_tokens", "max_tokens and max_completion_tokens are the same; give one of them.")
    if fields.stream_options is not None and not fields.stream:
        raise invalid("stream_options", "stream_options needs stream: true.")
    if fields.braid.events and not fields.stream:
        raise invalid("braid.events", "braid.events needs stream: true.")
    if endpoint == "chat":
        if fields.messages is None:
            raise invalid("messages", "messages is missing.", "missing_required_parameter")
        prompts: tuple[Prompt, ...] = (_conversation(fields.messages),)
    else:
        if fields.prompt is None:
            raise invalid("prompt", "prompt is missing.", "missing_required_parameter")
        prompts = _prompts(fields.prompt)
    if len(prompts) * fields.n > MOST_CHOICES:
        raise invalid("n", f"{len(prompts)} prompts x n = {fields.n} is more than {MOST_CHOICES} choices.")
    return Asked(
        endpoint=endpoint,
        fields=fields,
        prompts=prompts,
        seed=secrets.randbits(_SEED_BITS) if fields.seed is None else fields.seed,
        stops=(fields.stop,) if isinstance(fields.stop, str) else tuple(fields.stop),
        logprobs=_wants_logprobs(endpoint, fields.logprobs),
    )


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
        json.dumps(given, ensure_ascii=False).encode()  # an escaped half of a character is no text
    except UnicodeError as error:
        raise invalid(None, f"The body is not valid UTF-8 text ({error}).", "invalid_json") from None
    except (ValueError, RecursionError) as error:
        raise invalid(None, f"The body is not JSON ({error}).", "invalid_json") from None
    if not isinstance(given, dict):
        raise invalid(None, "The body is not a JSON object.", "invalid_json")
    return given


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _without_nulls(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are not null, those of objects that hold options included."""
    found = {name: value for name, value in given.items() if value is not None}
    for name in ("braid", "stream_options"):
        if isinstance(found.get(name), dict):
            found[name] = {key: value for key, value in found[name].items() if value is not None}
    options = found.get("braid")
    if isinstance(options, dict):
        for name in ("budgets", "settings"):
            if isinstance(options.get(name), dict):
                options[name] = {key: value for key, value in options[name].items() if value is not None}
    return found


def _ensure_known(endpoint: Endpoint, name: str) -> None:
    if name in REFUSED:
        raise invalid(name, f"{name} is not supported: {REFUSED[name]}.", "unsupported_parameter")
    foreign = COMPLETIONS_ONLY if endpoint == "chat" else CHAT_ONLY
    if name in foreign or not (name in APPLIED or name in IGNORED or name in NEUTRAL):
        raise invalid(
            name[:100], f"Unrecognized request argument supplied: {name[:100]}", "unknown_parameter"
        )


def _same(given: Any, value: Any) -> bool:
    """Equal, where a truth value is no number."""
    return isinstance(given, bool) == isinstance(value, bool) and bool(given == value)


Checked = TypeVar("Checked", bound=BaseModel)


def _validated(model: type[Checked], given: Mapping[str, Any]) -> Checked:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # The branches of a union are no part of the field's name.
        names = [part for part in first["loc"] if isinstance(part, int) or str(part).isidentifier()]
        where = ".".join(str(part) for part in names if part not in ("str", "bool", "int"))
        where = where.removesuffix(".list").removesuffix(".constrained-str")
        code = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}.get(
            first["type"], "invalid_type" if first["type"].endswith("_type") else "invalid_value"
        )
        raise invalid(where[:200], f"{where[:200]}: {first['msg']}.", code) from None


def _wants_logprobs(endpoint: Endpoint, value: bool | int | None) -> bool:
    if endpoint == "chat":
        if value is not None and not isinstance(value, bool):
            raise invalid("logprobs", "logprobs: a chat request takes true or false.", "invalid_type")
        return bool(value)
    if isinstance(value, bool):
        raise invalid("logprobs", "logprobs: a completion request takes a number.", "invalid_type")
    if value:
        raise invalid(
            "logprobs", "logprobs: the engine keeps the sampled token's alone: 0.", "unsupported_value"
        )
    return value is not None


def _conversation(messages: list[dict[str, Any]]) -> Prompt:
    turns = [_message(f"messages.{index}", message) for index, message in enumerate(messages)]
    if turns[-1].role != "user":
        raise invalid("messages", "The last message must be the user's: it is the problem.")
    return Prompt(turns[-1].content, tuple(turns[:-1]))


def _message(where: str, message: dict[str, Any]) -> Message:
    given = {key: value for key, value in message.items() if value not in (None, [])}
    role = given.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        shown = repr(role)[:100]
        raise invalid(f"{where}.role", f"{where}.role: {shown} is none of {', '.join(_ROLES)}.")
    unknown = given.keys() - {"role", "content", "name", "annotations", "refusal"}
    if role == "assistant":
        # What this server itself puts into a message may come back; it is not shown to the model.
        unknown -= {"reasoning_content"}
    if unknown:
        name = min(unknown)[:100]
        raise invalid(f"{where}.{name}", f"{where}.{name} is not supported.", "unsupported_parameter")
    if "content" not in given:
        raise invalid(f"{where}.content", f"{where}.content is missing.", "missing_required_parameter")
    return Message(_ROLES[role], _content(f"{where}.content", given["content"]))


def _content(where: str, content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise invalid(where, f"{where}: must be a text or a list of parts.", "invalid_type")
    texts = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(part.get("text"), str):
            raise invalid(
                f"{where}.{index}",
                f"{where}.{index}: only parts of type 'text' are read.",
                "unsupported_value",
            )
        texts.append(part["text"])
    return "".join(texts)


def _prompts(given: str | list[Any]) -> tuple[Prompt, ...]:
    prompts = [given] if isinstance(given, str) else given
    if not prompts:
        raise invalid("prompt", "prompt: the list is empty.")
    for index, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise invalid(
                f"prompt.{index}" if len(prompts) > 1 else "prompt",
                "prompt: only texts are read; token ids have no place in a protocol's contexts.",
                "unsupported_value",
            )
    return tuple(Prompt(prompt) for prompt in prompts)
