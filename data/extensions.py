"""A user's own protocols, tasks, verifiers, terms, layouts, from the files in a recipe's `extensions`.

    def register(registry: Registry) -> None:
        registry.term(BrevityParams, Brevity)

Naming a file in a recipe is trusting it: it runs with the user's rights in every process that needs it, the
command line, Ray's workers and the processes of verifiers. Each loads it as a module that is named after its
content, under which objects of its classes cross between processes. What it registers is put into Braid's
registries by rl.config.extensions, and in the process of a verifier by rewards.extensions.
"""

import hashlib
import importlib.abc
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data.errors import ConfigError
from data.params import Params
from data.registered import literal_name
from data.tasks.base import Task
from data.tasks.dataset.layouts import Layout
from data.text.answer_format import AnswerForm

VARIABLE = "BRAID_EXTENSIONS"
"""Environment variable with the files that a process loads when it starts."""
Kind = Literal["protocol", "task", "verifier", "term", "layout", "answer"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One thing that an extension adds."""

    kind: Kind
    name: str
    value: Any
    """The class, a layout's function, or the form of an answer."""
    params: type[Params] | None = None
    """Keys in a recipe; None for what has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extension:
    """A file that was loaded, and what it adds."""

    path: Path
    checksum: str
    """SHA-256 (hex) of its content."""
    entries: tuple[Entry, ...]


class Registry:
    """Takes what an extension adds. Every method raises ConfigError for what cannot be that."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def protocol(self, protocol: type[Any]) -> None:
        """A subclass of rollout.protocols.shared.base.ThinkingProtocol, with `name` and `params_class`."""
        self._add("protocol", getattr(protocol, "params_class", None), protocol)

    def task(self, task: type[Task]) -> None:
        """A subclass of data.tasks.base.Task, with `name` and `Params`."""
        if not (isinstance(task, type) and issubclass(task, Task)):
            raise ConfigError(f"task: {_shown(task)} is not a subclass of data.tasks.base.Task")
        name, params = getattr(task, "name", None), getattr(task, "Params", None)
        if not isinstance(name, str) or not _are_params(params):
            raise ConfigError(
                f"task: {_shown(task)} needs `name` and `Params`, a subclass of data.params.Params"
            )
        self.entries.append(Entry(kind="task", name=_checked(name), value=task, params=params))

    def verifier(self, params: type[Params], verifier: Callable[[Any], Any]) -> None:
        """A subclass of rewards.verifiers.base.VerifierParams, and the verifier's class."""
        self._add("verifier", params, verifier)

    def term(self, params: type[Params], term: Callable[[Any], Any]) -> None:
        """A subclass of rewards.term.TermParams, and the term's class."""
        self._add("term", params, term)

    def layout(self, name: str, layout: Layout) -> None:
        """A function from a row to its data.tasks.dataset.reading.Reading; None for a row of another kind."""
        if not isinstance(name, str) or not callable(layout):
            raise ConfigError("layout: needs a name and a function")
        self.entries.append(Entry(kind="layout", name=_checked(name), value=layout))

    def answer(self, kind: str, form: AnswerForm) -> None:
        """A form of answers, which a recipe names in `answer.kind`."""
        if not isinstance(kind, str) or not isinstance(form, AnswerForm):
            raise ConfigError("answer: needs a name and a data.text.answer_format.AnswerForm")
        self.entries.append(Entry(kind="answer", name=_checked(kind), value=form))

    def _add(self, kind: Kind, params: Any, value: Any) -> None:
        if not _are_params(params):
            raise ConfigError(f"{kind}: {_shown(params)} is not a subclass of data.params.Params")
        if not callable(value):
            raise ConfigError(f"{kind}: {_shown(value)} is not a class")
        name = literal_name(params)
        if name is None:
            raise ConfigError(f"{kind}: {_shown(params)} needs a field name: Literal[...] with its one name")
        self.entries.append(Entry(kind=kind, name=_checked(name), value=value, params=params))


_LOADED: dict[str, Extension] = {}
"""Checksum -> extension, of this process."""


def load(path: Path) -> Extension:
    """The extension in a file, loaded once per process and content.

    Raises:
        ConfigError: it cannot be read, or raises an exception (with its line), or has no `register`.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}: this extension cannot be read ({error.strerror})\n  fix: correct the path (relative to "
            "the recipe)"
        ) from error
    checksum = hashlib.sha256(source).hexdigest()
    if checksum not in _LOADED:
        entries = _registered(path, source, f"braid_extension_{checksum[:16]}")
        _LOADED[checksum] = Extension(path=path, checksum=checksum, entries=entries)
    return _LOADED[checksum]


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_to_load() -> list[Path]:
    """The files that this process was told to load."""
    return [Path(name) for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]


def variable_of(paths: list[Path]) -> str:
    """Value of the variable for processes that load these files."""
    return os.pathsep.join(map(str, paths))


class _Source(importlib.abc.SourceLoader):
    """Loads a module from text that was read already, and leaves no compiled file beside it."""

    def __init__(self, path: Path, source: bytes) -> None:
        self._path, self._source = path, source

    def get_filename(self, fullname: str) -> str:
        return str(self._path)

    def get_data(self, path: str | bytes) -> bytes:
        if path != str(self._path):
            raise OSError(f"{path!r} is not the extension")
        return self._source


def _registered(path: Path, source: bytes, name: str) -> tuple[Entry, ...]:
    """What the file registers; its module stays in sys.modules, for pickled objects of its classes."""
    spec = importlib.util.spec_from_loader(name, _Source(path, source))
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    registry = Registry()
    try:
        spec.loader.exec_module(module)
        register = getattr(module, "register", None)
        if not callable(register):
            raise ConfigError("has no function register(registry)")
        register(registry)
    except Exception as error:  # whatever a user's file raises
        del sys.modules[name]
        what = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
        raise ConfigError(f"{path}{_line(error, path)}: {what}\n  fix: correct this extension") from error
    if not registry.entries:
        del sys.modules[name]
        raise ConfigError(f"{path}: registers nothing\n  fix: call the registry's methods in `register`")
    return tuple(registry.entries)


def _line(error: Exception, path: Path) -> str:
    """`:12`, the line of the file in which an exception arose; empty when it is not known."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f":{error.lineno}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    return f":{lines[-1]}" if lines else ""


def _are_params(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Params)


def _checked(name: str) -> str:
    if not name.isidentifier():
        raise ConfigError(f"the name {name!r} is not made of letters, digits and _")
    return name


def _shown(value: Any) -> str:
    return getattr(value, "__qualname__", None) or repr(value)[:80]
