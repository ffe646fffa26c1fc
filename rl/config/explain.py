"""Pydantic's errors as messages for users: dotted key, value, reason, remedy, nearest valid name."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from data.registered import Registered
from rl.config.base import ConfigIssue
from rl.config.tree import dotted, value_at

_BOUNDS = {
    "greater_than_equal": ("must be at least {ge}", "give {ge} or more"),
    "greater_than": ("must be more than {gt}", "give more than {gt}"),
    "less_than_equal": ("must be at most {le}", "give {le} or less"),
    "less_than": ("must be less than {lt}", "give less than {lt}"),
    "multiple_of": ("must be a multiple of {multiple_of}", "give a multiple of {multiple_of}"),
    "too_short": ("needs at least {min_length} item(s)", "add one"),
    "literal_error": ("must be {expected}", "choose one of these"),
    "union_tag_invalid": ("must be one of {expected_tags}", "choose one of these"),
    "union_tag_not_found": ("is missing", "add {discriminator}"),
    "string_pattern_mismatch": (
        "does not match {pattern}",
        "use letters, digits, _ ; begin with a (small) letter",
    ),
    "finite_number": ("must be a finite number", "give a finite number"),
}
"""Pydantic's error type -> (reason, remedy), filled from the error's context."""

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "model": "keys and values",
    "model_attributes": "keys and values",
    "tuple": "a list",
    "list": "a list",
    "path": "a path",
}


def explain(error: ValidationError, raw: Mapping[str, Any], root: type[BaseModel]) -> list[ConfigIssue]:
    """All issues; misspelt keys come first, before the missing keys that they were meant to be."""
    issues = [_issue(detail, raw, root) for detail in error.errors(include_url=False)]
    keys = [issue.key for issue in issues]
    # Pydantic reports a list with a wrong item as wrong, too.
    own = [c for c in issues if not any(key.startswith(f"{c.key}.") for key in keys)]
    return sorted(own, key=lambda issue: issue.reason != UNKNOWN_KEY)


UNKNOWN_KEY = "there is no such key"


def _issue(detail: Any, raw: Mapping[str, Any], root: type[BaseModel]) -> ConfigIssue:
    location, kind, context = tuple(detail["loc"]), str(detail["type"]), detail.get("ctx", {})
    key, address = dotted(raw, location)
    value = value_at(raw, address)
    if kind == "extra_forbidden":
        known = known_keys(root, location[:-1])
        return ConfigIssue(key=key, value=value, reason=UNKNOWN_KEY, remedy=nearest(str(location[-1]), known))
    about = _about(root, location)
    if kind == "missing":
        return ConfigIssue(key=key, value=None, reason="is missing", remedy=f"add it{about}")
    if kind in _BOUNDS:
        reason, remedy = (text.format(**context) for text in _BOUNDS[kind])
        if kind.startswith("union_tag"):
            tag = str(context["discriminator"]).strip("'")
            key, value = f"{key}.{tag}", value_at(raw, (*address, tag))
            tags = re.findall(r"'([^']*)'", context.get("expected_tags", ""))
            close = difflib.get_close_matches(str(value), tags, n=1, cutoff=0.55)
            remedy = f"did you mean {close[0]!r}?" if close else remedy
        return ConfigIssue(key=key, value=value, reason=reason, remedy=remedy + about)
    wanted = _KINDS.get(kind.removesuffix("_type").removesuffix("_parsing").removesuffix("_from_float"))
    if wanted is not None:
        return ConfigIssue(key=key, value=value, reason=f"must be {wanted}", remedy=f"write {wanted}{about}")
    message = str(detail["msg"]).removeprefix("Value error, ")
    shown = None if isinstance(value, Mapping) else value
    return ConfigIssue(
        key=key, value=shown, reason=message, remedy=f"change one of the values named there{about}"
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """A remedy for an unknown name: the closest known one, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.55)
    return f"did you mean {close[0]!r}?" if close else f"use one of: {', '.join(names)}"


def known_keys(root: type[BaseModel], location: Sequence[str | int]) -> set[str]:
    """The keys that the schema knows at a location."""
    return {field for model in _models_at(root, location) for field in model.model_fields}


def _about(root: type[BaseModel], location: Sequence[str | int]) -> str:
    """` (what the field is)`, from its docstring."""
    if not location or isinstance(location[-1], int):
        return ""
    for model in _models_at(root, location[:-1]):
        field = model.model_fields.get(location[-1])
        if field is not None and field.description:
            return f" ({' '.join(field.description.split())})"
    return ""


def _models_at(root: type[BaseModel], location: Sequence[str | int]) -> list[type[BaseModel]]:
    """The models possible at a location; a union's tag in the location narrows them down."""
    here: list[Any] = [root]
    for part in location:
        if isinstance(part, int):
            here = [member for kind in here for item in get_args(kind)[:1] for member in _members(item)]
            continue
        models = [kind for kind in here if isinstance(kind, type) and issubclass(kind, BaseModel)]
        tagged = [model for model in models if part in _tags(model)]
        if tagged and len(models) > 1:
            here = tagged
        else:
            fields = [model.model_fields[part] for model in models if part in model.model_fields]
            here = [member for field in fields for member in _members_of(field)]
    return [kind for kind in here if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _members_of(field: FieldInfo) -> list[Any]:
    """The members of a field's type; pydantic keeps the marks of the type itself apart from it."""
    marks = [mark for mark in field.metadata if isinstance(mark, Registered)]
    return list(marks[0].classes()) if marks else _members(field.annotation)


def _members(annotation: Any) -> list[Any]:
    """The members of an annotation: unions, registries and Annotated are unpacked."""
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        registered = [mark for mark in marks if isinstance(mark, Registered)]
        return list(registered[0].classes()) if registered else _members(inner)
    if get_origin(annotation) in (tuple, list):
        return [annotation]
    arguments = get_args(annotation)
    return [member for argument in arguments for member in _members(argument)] if arguments else [annotation]


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    """The values of the fields that tell a union's members apart."""
    fields = [model.model_fields[name] for name in ("kind", "name") if name in model.model_fields]
    return tuple(
        tag
        for field in fields
        if get_origin(field.annotation) is Literal
        for tag in get_args(field.annotation)
    )
