"""Run a program against its tests in a box, and say how each test ended."""

import secrets
import time
from collections.abc import Iterator
from functools import cache

from rewards.sandbox.box import Box, BoxError, opened
from rewards.sandbox.compare import same_text, same_value
from rewards.sandbox.limits import Level, SandboxParams
from rewards.sandbox.suite import Asserts, Calls, Ending, InputOutput, Report, Result, Tests, count
from rewards.sandbox.ways import Way, ways

MOST_BYTES = 16 * 2**20
"""Longest program with its tests that is taken, in bytes of text."""
_PASSED = Result(Ending.PASSED)


def run(program: str, tests: Tests, params: SandboxParams, *, stop: bool = True) -> Report:
    """Test a program in a box of its own; when this returns, no process of it is left.

    Args:
        program: Python source.
        tests: asserts, input and output, or calls.
        params: level and limits.
        stop: end at the first test that does not pass.
    """
    began = time.monotonic()
    found = find_way(params)
    if isinstance(found, str):
        results = [Result(Ending.SANDBOX_FAILED, found)]
    else:
        results = _run(program, tests, params, found[0], stop)
    return Report(results=tuple(results), tests=count(tests), seconds=time.monotonic() - began)


def find_way(params: SandboxParams) -> tuple[Way] | str:
    """The way of starting a box that works here, in a tuple; or, as text, why none does."""
    return _find_way(params.level, params.start_seconds)


@cache
def _find_way(level: Level, start_seconds: int) -> tuple[Way] | str:
    params = SandboxParams(level=level, start_seconds=start_seconds)
    reasons = []
    for way in ways(params):
        results = _run("print(6 * 7)", InputOutput(pairs=(("", "42"),)), params, way, stop=True)
        if results == [_PASSED]:
            return (way,)
        reasons.append(f"{way}: {results[0].detail or results[0].ending}")
    return "; ".join(reasons)


def _run(program: str, tests: Tests, params: SandboxParams, way: Way, stop: bool) -> list[Result]:
    results: list[Result] = []
    total = count(tests)
    if len(program) > MOST_BYTES:
        return [Result(Ending.COMPILE_ERROR, f"{len(program)} characters, over {MOST_BYTES}")] * total
    deadline = None
    while len(results) < total and (not results or not stop or results[-1] == _PASSED):
        before = len(results)
        try:
            with opened(way, params) as box:
                deadline = deadline or time.monotonic() + params.seconds
                for result in _talk(box, program, tests, before, stop, deadline):
                    results.append(result)
                    if stop and result != _PASSED:
                        break
        except BoxError as error:
            return [Result(Ending.SANDBOX_FAILED, str(error))]
        except TimeoutError:
            late = Result(Ending.TIMEOUT, f"over {params.seconds} s for all tests")
            return [*results, *[late] * (1 if stop else total - len(results))]
        if len(results) == before:
            results.append(Result(Ending.RUNTIME_ERROR, "its tests were ended from inside the box"))
    return results


def _talk(box: Box, program: str, tests: Tests, done: int, stop: bool, deadline: float) -> Iterator[Result]:
    """Results of the tests from number `done` on, as they come; fewer when the tests' process ends early."""
    if isinstance(tests, Asserts):
        return _asserts(box, program, tests, done, stop, deadline)
    if isinstance(tests, InputOutput):
        return _input_output(box, program, tests, done, deadline)
    return _calls(box, program, tests, done, deadline)


def _asserts(
    box: Box, program: str, tests: Asserts, done: int, stop: bool, deadline: float
) -> Iterator[Result]:
    nonce = secrets.token_hex(16)
    box.send(["tests", program])
    box.send([tests.setup, list(tests.tests[done:]), nonce, stop])
    for _ in tests.tests[done:]:
        match box.receive(deadline):
            case ["test", str() as said, str() as ending, str() as detail] if secrets.compare_digest(
                said, nonce
            ):
                yield Result(Ending(ending), detail)
            case _:
                return


def _input_output(box: Box, program: str, tests: InputOutput, done: int, deadline: float) -> Iterator[Result]:
    box.send(["stdin", program])
    for given, expected in tests.pairs[done:]:
        box.send(["input", given])
        match box.receive(deadline):
            case ["ran", str() as output, None]:
                same = same_text(output, expected)
                yield _PASSED if same else Result(Ending.WRONG_OUTPUT, f"printed {output[:100]!r}")
            case ["ran", str(), [str() as ending, str() as detail]]:
                yield _failed(ending, detail)
            case _:
                return


def _calls(box: Box, program: str, tests: Calls, done: int, deadline: float) -> Iterator[Result]:
    arguments = [list(one) for one in tests.arguments[done:]]
    box.send(["calls", program, tests.function, arguments])
    for expected in tests.results[done:]:
        match box.receive(deadline):
            case ["value", value]:
                same = same_value(value, expected)
                same = same or (tests.may_be_wrapped and same_value(value, expected[0]))
                yield _PASSED if same else Result(Ending.WRONG_OUTPUT, "another result")
            case ["failed", [str() as ending, str() as detail]]:
                yield _failed(ending, detail)
            case _:
                return


def _failed(ending: str, detail: str) -> Result:
    """A failure as told from inside, where a success cannot be told."""
    known = ending in set(Ending) - {Ending.PASSED, Ending.SANDBOX_FAILED}
    return Result(Ending(ending) if known else Ending.RUNTIME_ERROR, detail)
