"""What a program is tested with, and what came out."""

import ast
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias


class Ending(StrEnum):
    """How one test of a program ended."""

    PASSED = "passed"
    WRONG_OUTPUT = "wrong_output"
    RUNTIME_ERROR = "runtime_error"
    """It raised, was killed, left early, or has no function of the wanted name."""
    COMPILE_ERROR = "compile_error"
    TIMEOUT = "timeout"
    """The wall-clock limit of all tests, or the processor limit of one process."""
    MEMORY = "memory"
    OUTPUT_LIMIT = "output_limit"
    SANDBOX_FAILED = "sandbox_failed"
    """The box could not start or died by itself: nothing is known of the program."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one test ended, and why."""

    ending: Ending
    detail: str = ""
    """What happened, in a few words; from the program, so nothing to be believed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A program's results, one for each test; those after a stop are left out."""

    results: tuple[Result, ...]
    tests: int
    """How many tests there are."""
    seconds: float

    @property
    def worst(self) -> Result:
        """The first result that is not a pass; a pass when all passed."""
        return next((one for one in self.results if one.ending is not Ending.PASSED), self.results[-1])

    @property
    def share(self) -> float:
        """Share of the tests that passed."""
        return sum(one.ending is Ending.PASSED for one in self.results) / self.tests


@dataclass(frozen=True, kw_only=True, slots=True)
class Asserts:
    """Python statements about the names that the program defines, as MBPP and HumanEval have them."""

    tests: tuple[str, ...]
    """Each is one test; an AssertionError means wrong output. Example: `assert add(1, 2) == 3`."""
    setup: str = ""
    """Statements that run before the tests: imports, or the definition of `check`."""

    def __post_init__(self) -> None:
        """Raise ValueError when there is no test, or one is not Python."""
        if not self.tests:
            raise ValueError("no tests")
        for text in (self.setup, *self.tests):
            try:
                ast.parse(text)
            except (SyntaxError, RecursionError, MemoryError) as error:
                raise ValueError(f"a test is not Python: {error}") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class InputOutput:
    """Texts for standard input, and what standard output must be."""

    pairs: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        """Raise ValueError when there is no pair."""
        if not self.pairs:
            raise ValueError("no tests")


@dataclass(frozen=True, kw_only=True, slots=True)
class Calls:
    """Arguments for one function, or a method of that name of `class Solution`, and the results."""

    function: str
    arguments: tuple[tuple[Any, ...], ...]
    """JSON values, one tuple for each call."""
    results: tuple[Any, ...]
    """JSON values; the function's tuples count as lists."""
    may_be_wrapped: bool = False
    """Whether a result may also be the only item of the list that is expected."""

    def __post_init__(self) -> None:
        """Raise ValueError when there is no call, or their number is not that of the results."""
        if not self.results or len(self.arguments) != len(self.results):
            raise ValueError(f"{len(self.arguments)} calls and {len(self.results)} results")


Tests: TypeAlias = Asserts | InputOutput | Calls
"""The tests of one program, of one of three kinds."""


def count(tests: Tests) -> int:
    """How many tests a program is put to."""
    if isinstance(tests, Asserts):
        return len(tests.tests)
    return len(tests.pairs if isinstance(tests, InputOutput) else tests.results)
