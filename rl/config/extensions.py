"""What the files in a recipe's `extensions` register, put into the registries of this process."""

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, create_model

from data.errors import ConfigError
from data.extensions import VARIABLE, Entry, Extension, Kind, load, variable_of
from data.tasks.dataset.layouts import LAYOUTS
from data.tasks.registry import TASKS
from data.text.answer_format import ANSWER_FORMS
from rewards.compose import TERMS
from rewards.extensions import add_term, add_verifier
from rewards.verifiers.registry import VERIFIERS
from rl.config.task import SECTIONS, GeneratedTaskConfig
from rollout.protocols import PROTOCOLS, ThinkingProtocol

FOLDER = "extensions"
"""Folder of a run directory with copies of its extensions."""
INSTALLED: dict[str, Extension] = {}
"""Checksum -> extension, of those whose entries are in the registries of this process."""


def load_extensions(paths: Sequence[Path]) -> None:
    """Load files and add what they register; processes that this one starts do the same.

    Raises:
        ConfigError: a file cannot be loaded, or registers a name that is taken or a class of a wrong kind.
    """
    for path in paths:
        extension = load(path)
        if extension.checksum not in INSTALLED:
            _install(extension)
            INSTALLED[extension.checksum] = extension
    if paths:
        os.environ[VARIABLE] = variable_of([extension.path for extension in INSTALLED.values()])


def copies(run_dir: Path) -> list[Path]:
    """The extensions of a run, as they were when it was made."""
    return sorted((run_dir / FOLDER).glob("*.py"))


def copy_name(index: int, path: Path) -> str:
    """File name of an extension's copy in a run directory, in the order of the recipe."""
    return f"{index:03}_{path.stem}.py"


def _install(extension: Extension) -> None:
    for index, entry in enumerate(extension.entries):
        twice = any((e.kind, e.name) == (entry.kind, entry.name) for e in extension.entries[:index])
        if entry.name in _TAKEN[entry.kind] or twice:
            raise _refused(
                extension, f"{entry.kind} {entry.name!r}: this name is taken", "choose another name"
            )
    for entry in extension.entries:
        try:
            _ADD[entry.kind](entry)
        except ConfigError as error:
            raise _refused(extension, str(error), "correct this extension") from error


def _refused(extension: Extension, reason: str, remedy: str) -> ConfigError:
    return ConfigError(f"{extension.path}: {reason}\n  fix: {remedy}")


def _add_protocol(entry: Entry) -> None:
    cls = entry.value
    if not (isinstance(cls, type) and issubclass(cls, ThinkingProtocol)):
        raise ConfigError(f"protocol {entry.name!r}: is no subclass of ThinkingProtocol")
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise ConfigError(f"protocol {entry.name!r}: lacks {missing}")
    if getattr(cls, "name", None) != entry.name:
        raise ConfigError(f"protocol {entry.name!r}: the class has another name than its parameters")
    PROTOCOLS[entry.name] = cls


def _add_task(entry: Entry) -> None:
    cls, params = entry.value, entry.params
    assert params is not None, "a task has parameters"
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise ConfigError(f"task {entry.name!r}: lacks {missing}")
    if any(task.Params is params for task in TASKS.values()):
        raise ConfigError(
            f"task {entry.name!r}: its Params are those of another task; derive a class of its own"
        )
    is_optional = not any(field.is_required() for field in params.model_fields.values())
    fields: dict[str, Any] = {
        "name": (Literal[entry.name], Field(description="Name of the task.")),
        "params": (
            params,
            Field(default=params() if is_optional else ..., description="Settings of the task."),
        ),
    }
    module = cls.__module__
    section = create_model(f"{cls.__name__}Task", __base__=GeneratedTaskConfig, __module__=module, **fields)
    # Recipes cross to other processes, which look for the class in the module.
    setattr(sys.modules[module], section.__name__, section)
    TASKS[entry.name], SECTIONS[entry.name] = cls, section


def _add_layout(entry: Entry) -> None:
    LAYOUTS[entry.name] = entry.value


def _add_answer(entry: Entry) -> None:
    ANSWER_FORMS[entry.name] = entry.value


_TAKEN: dict[Kind, Mapping[str, Any]] = {
    "protocol": PROTOCOLS,
    "task": TASKS,
    "verifier": VERIFIERS,
    "term": TERMS,
    "layout": LAYOUTS,
    "answer": ANSWER_FORMS,
}
_ADD: dict[Kind, Callable[[Entry], None]] = {
    "protocol": _add_protocol,
    "task": _add_task,
    "verifier": add_verifier,
    "term": add_term,
    "layout": _add_layout,
    "answer": _add_answer,
}
