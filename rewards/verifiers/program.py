"""Programs that are right when they pass their problem's tests, in a box (rewards.sandbox)."""

import json
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from data.params import MAY_CHANGE
from data.text.answers import code
from rewards.sandbox.limits import SandboxParams
from rewards.sandbox.run import run
from rewards.sandbox.suite import Asserts, Calls, Ending, InputOutput, Tests
from rewards.verifiers.base import Outcome, Sample, VerifierParams, fault, graded, no_answer, no_gold

_MARGIN_SECONDS = 5
"""Least time that the verifier has beyond the program's own, to start the box and to end it."""


class CodeParams(VerifierParams):
    """How programs are run, and what passing some of the tests is worth."""

    name: Literal["code"]
    """Name of the verifier."""
    partial: Literal["all", "share"] = "all"
    """all: full marks for all tests, none otherwise; it stops at the first failure. share: the share of the
    tests that pass is the score. Either way only a program that passes all is correct.
    """
    sandbox: SandboxParams = SandboxParams()
    """Box in which a program runs with all its tests."""
    seconds: float = Field(default=60.0, gt=0, le=7200, json_schema_extra=MAY_CHANGE)
    """Hard limit for one answer, box and all. A program that is late on its own is wrong after
    `sandbox.seconds`; later than this, the box is at fault, and the answer is ungraded.
    """
    max_characters: int = Field(default=100_000, ge=1, le=10_000_000)
    """Longest answer that is read; a longer one counts as no answer."""

    @model_validator(mode="after")
    def _fits_its_box(self) -> Self:
        least = self.sandbox.seconds + _MARGIN_SECONDS
        if self.seconds < least:
            raise ValueError(f"seconds must be at least sandbox.seconds + {_MARGIN_SECONDS}, so {least}")
        if self.sandbox.memory_mb > self.memory_gb * 1024:
            raise ValueError("sandbox.memory_mb is more than memory_gb gives to the verifier's process")
        return self


class CodeVerifier:
    """The answer's program passes the tests in the problem's field `tests`."""

    def __init__(self, params: CodeParams) -> None:
        self._params = params

    def __call__(self, sample: Sample) -> Outcome:
        """Run the program; a failing one is wrong, a failing box is a fault."""
        try:
            tests = read_tests(sample.fields.get("tests"))
        except (ValueError, TypeError) as error:
            return no_gold(f"field tests: {error}")
        program = program_in(sample.answer)
        if program is None:
            return no_answer("no program: a code block is opened and not closed, or empty")
        report = run(program, tests, self._params.sandbox, stop=self._params.partial == "all")
        worst = report.worst
        if worst.ending is Ending.SANDBOX_FAILED:
            return fault(f"sandbox: {worst.detail}")
        passed = worst.ending is Ending.PASSED
        share = report.share if self._params.partial == "share" else float(passed)
        return graded(passed, "" if passed else f"{worst.ending}: {worst.detail}", score=share)


def program_in(text: str) -> str | None:
    """The content of the last fenced block that is closed; the text itself when it has no fence at all."""
    found = code(text)
    if found is not None:
        return text[slice(*found)]
    return text if text.strip() and "```" not in text else None


def read_tests(given: Any) -> Tests:
    """The tests of a problem.

    Args:
        given: {"setup": code, "asserts": [code, ...]}; {"inputs": [...], "outputs": [...], "fn_name": name or
            null}; a list of assert statements; or one of these as JSON text.

    Raises:
        ValueError: it is none of these, or a test is not Python.
    """
    value = json.loads(given) if isinstance(given, str) else given
    if isinstance(value, list):
        value = {"asserts": value}
    if not isinstance(value, Mapping):
        raise ValueError(f"must be an object or a list of asserts, found {type(value).__name__}")
    if "asserts" in value:
        asserts, setup = value["asserts"], value.get("setup") or ""
        if not isinstance(asserts, list) or not all(isinstance(one, str) for one in (*asserts, setup)):
            raise ValueError("asserts must be a list of texts, setup a text")
        return Asserts(tests=tuple(asserts), setup=setup)
    inputs, outputs, name = value.get("inputs"), value.get("outputs"), value.get("fn_name")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        raise ValueError("must have asserts, or inputs and outputs of one length")
    if name is None:
        texts = zip(map(_lines, inputs), map(_lines, outputs), strict=True)
        return InputOutput(pairs=tuple(texts))
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"fn_name must be the name of a function, found {name!r}")
    return Calls(
        function=name,
        arguments=tuple(map(_arguments, inputs)),
        results=tuple(outputs),
        # APPS wraps each result in a list, LiveCodeBench does not; nothing in a row says which.
        may_be_wrapped=all(isinstance(one, list) and len(one) == 1 for one in outputs),
    )


def _lines(value: Any) -> str:
    """Text for standard input or output; APPS has some of them as lists of lines."""
    return "\n".join(map(_lines, value)) if isinstance(value, list) else str(value)


def _arguments(value: Any) -> tuple[Any, ...]:
    """Arguments of one call: a list of them, or a text with one JSON value on each line."""
    if isinstance(value, str):
        return tuple(json.loads(line) for line in value.splitlines() if line.strip())
    if not isinstance(value, list):
        raise ValueError(f"arguments must be a list, found {type(value).__name__}")
    return tuple(value)
