"""A user's own function: `python: FILE.py:FUNCTION`, sync or async, for one answer or for a list.

    def check(answer, gold): ...                       # any of answer, gold, golds, question, fields, by name
    async def check(answers, golds): ...               # `answers` makes it a function of lists

    True, False               correct, wrong
    number from 0 to 1        the score; correct at 1
    None                      this problem cannot be graded, which is not a 0
    anything else             a fault that names what came back: text, NaN, 1.5, a list, a wrong count

A number may be a NumPy scalar or an array or tensor without dimensions. A function of lists must return as
many results as it got answers; before its first call it is tried with the sample twice, since one number for
all would go unnoticed with one answer.
"""

import asyncio
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from data.errors import ConfigError
from data.params import CONTENT, MAY_CHANGE
from rewards.verifiers.base import Outcome, Sample, VerifierParams, graded, no_gold

CORRECT_FROM = 1 - 1e-6
_ONE = ("answer", "gold", "golds", "question", "fields")
_LIST = ("answers", "gold", "golds", "questions", "fields")


class PythonParams(VerifierParams):
    """Where the function is. It runs with the user's rights, in a process of its own."""

    name: Literal["python"]
    """Name of the verifier."""
    file: Path = Field(json_schema_extra=CONTENT)
    """Python file, relative to the recipe."""
    function: str = Field(pattern=r"^[A-Za-z_]\w*$")
    """Name of the function in it."""
    memory_gb: float = Field(default=32.0, gt=0, le=1024, json_schema_extra=MAY_CHANGE)
    """Limit on the address space of a verifier process in GiB; libraries reserve much more than they use."""

    verifies_gold: ClassVar[bool] = False


class ResultError(TypeError):
    """A function returned what is no result."""


class PythonVerifier:
    """The user's function, called by the names of its parameters."""

    def __init__(self, params: PythonParams) -> None:
        self._name = f"{params.file.name}:{params.function}"
        self._function = load_function(params.file, params.function)
        names = tuple(inspect.signature(self._function).parameters)
        self._takes_lists = "answers" in names
        known = _LIST if self._takes_lists else _ONE
        unknown = [name for name in names if name not in known]
        if unknown or not {"answer", "answers"} & set(names):
            raise ConfigError(
                f"{self._name} takes ({', '.join(names)}); it must take `answer` or `answers`, and may take "
                f"{', '.join(known[1:])}"
            )
        self._names = names
        self._counted = False
        self._loop = asyncio.new_event_loop()

    def __call__(self, sample: Sample) -> Outcome:
        """Call the function and read its result."""
        if not self._takes_lists:
            return outcome_of(self._result(self._arguments(sample)))
        if not self._counted:
            self._results([sample, sample])
            self._counted = True
        return outcome_of(self._results([sample])[0])

    def _arguments(self, sample: Sample) -> dict[str, Any]:
        given = {
            "answer": sample.answer,
            "gold": sample.gold[0] if sample.gold else None,
            "golds": list(sample.gold),
            "question": sample.question,
            "fields": dict(sample.fields),
        }
        return {name: given[name] for name in self._names}

    def _results(self, samples: Sequence[Sample]) -> list[Any]:
        columns = {
            "answers": [sample.answer for sample in samples],
            "gold": [sample.gold[0] if sample.gold else None for sample in samples],
            "golds": [list(sample.gold) for sample in samples],
            "questions": [sample.question for sample in samples],
            "fields": [dict(sample.fields) for sample in samples],
        }
        found = self._result({name: columns[name] for name in self._names})
        if (
            isinstance(found, str | bytes | dict)
            or not hasattr(found, "__len__")
            or not _has_dimensions(found)
        ):
            raise ResultError(
                f"{self._name} returned {described(found)} for {len(samples)} answers, not a list"
            )
        if len(found) != len(samples):
            raise ResultError(f"{self._name} returned {len(found)} results for {len(samples)} answers")
        return list(found)

    def _result(self, arguments: dict[str, Any]) -> Any:
        found = self._function(**arguments)
        return self._loop.run_until_complete(found) if inspect.iscoroutine(found) else found


def load_function(file: Path, name: str) -> Callable[..., Any]:
    """The function of that name in a file. Modules beside the file can be imported by it.

    Raises:
        ConfigError: there is no such file or function. What the file itself raises is passed on.
    """
    if not file.is_file():
        raise ConfigError(f"{file}: there is no such file")
    spec = importlib.util.spec_from_file_location(f"user_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file}: is no Python file")
    sys.path.append(str(file.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"{file}: has no function {name!r}")
    return function  # type: ignore[no-any-return]


def outcome_of(result: Any) -> Outcome:
    """The outcome that a function's result stands for.

    Raises:
        ResultError: it stands for none.
    """
    if inspect.iscoroutine(result):
        result.close()
        raise ResultError(
            "it returned a coroutine that nobody awaits; make the function async, or await inside"
        )
    value = result.item() if hasattr(result, "item") and not _has_dimensions(result) else result
    if value is None:
        return no_gold("the function returned None: it cannot grade this problem")
    if isinstance(value, bool):
        return graded(value)
    if not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= 1:
        raise ResultError(
            f"it returned {described(value)}; return True, False, a number from 0 to 1, or None"
        )
    return graded(value >= CORRECT_FROM, score=float(value))


def described(value: Any) -> str:
    """A value with its type, cut to a line."""
    return f"{type(value).__name__} {value!r}"[:80]


def _has_dimensions(value: Any) -> bool:
    return getattr(value, "ndim", 1) > 0
