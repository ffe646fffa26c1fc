"""Honest programs pass, wrong ones fail for the right reason, and cheats do not pass."""

import time
from subprocess import PIPE, Popen
from textwrap import dedent

import pytest
from box_lab import PARAMS, UNBOXED, asserts, needs_bubblewrap, run_watched

import rewards.sandbox.run as run_module
from rewards.sandbox import ways
from rewards.sandbox.box import Box
from rewards.sandbox.limits import Level, SandboxParams
from rewards.sandbox.run import find_way, run
from rewards.sandbox.suite import Calls, Ending, InputOutput, Report, Tests


@pytest.fixture(params=["bubblewrap", "none"])
def params(request: pytest.FixtureRequest) -> SandboxParams:
    if request.param == "bubblewrap":
        needs_bubblewrap()
    return PARAMS if request.param == "bubblewrap" else UNBOXED


def endings(report: Report) -> list[str]:
    return [str(result.ending) for result in report.results]


def test_asserts_share_a_program(params: SandboxParams) -> None:
    program = "def add(a, b):\n    return a + b if a != 5 else 0"
    tests = asserts("assert add(1, 2) == 3", "assert add(5, 2) == 7", "assert add(2, 2) == 4")
    report = run_watched(program, tests, params, stop=False)
    assert endings(report) == ["passed", "wrong_output", "passed"]
    assert report.share == pytest.approx(2 / 3)
    assert endings(run_watched(program, tests, params)) == ["passed", "wrong_output"]


def test_a_crash_costs_one_assert_and_not_those_after_it(params: SandboxParams) -> None:
    program = "import os\ndef f(x):\n    return os._exit(0) if x == 2 else x"
    report = run(program, asserts(*(f"assert f({n}) == {n}" for n in range(4))), params, stop=False)
    assert endings(report) == ["passed", "passed", "runtime_error", "passed"]


def test_check_functions(params: SandboxParams) -> None:
    setup = """
        def check(candidate):
            assert candidate([1.0, 2.0, 3.9], 0.3) == False
            assert candidate([1.0, 2.0, 2.2], 0.3) == True
    """
    program = """
        from typing import List
        def close(numbers: List[float], limit: float) -> bool:
            return any(abs(a - b) < limit for i, a in enumerate(numbers) for b in numbers[i + 1:])
    """
    tests = asserts("check(close)", setup=dedent(setup))
    assert endings(run_watched(dedent(program), tests, params)) == ["passed"]


def test_inputs_are_run_one_by_one(params: SandboxParams) -> None:
    pairs = (("2 3\n", "5\n"), ("10 20\n", "30"), ("1 1", "3"), ("x", "0"), ("é ñ", "éñ"))
    program = """
        a, b = input().split()
        print(a + b if a == "é" else int(a) + int(b), " ")
    """
    report = run_watched(dedent(program), InputOutput(pairs=pairs), params, stop=False)
    assert endings(report) == ["passed", "passed", "wrong_output", "runtime_error", "passed"]
    assert "ValueError" in report.results[3].detail


def test_calls_of_a_function_and_of_a_solution_class(params: SandboxParams) -> None:
    tests = Calls(function="two", arguments=(([1, 2],), ([3],)), results=([2, 1], [3]))
    assert endings(run("def two(x):\n    return tuple(x[::-1])", tests, params)) == ["passed"] * 2
    method = "class Solution:\n    def two(self, x):\n        return x[::-1]"
    assert endings(run(method, tests, params)) == ["passed"] * 2
    assert endings(run("def one(x): return x", tests, params, stop=False)) == ["runtime_error"] * 2
    dies = "import os\ndef two(x):\n    return x if len(x) == 1 else os._exit(0)"
    assert endings(run(dies, tests, params, stop=False)) == ["runtime_error", "passed"]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("program", "ending"),
    [
        ("def answer(:", "compile_error"),
        ("(" * 5000, "compile_error"),
        ("answer = 1 / 0", "runtime_error"),
        ("import no_such_module", "runtime_error"),
        ("def answer(): raise AssertionError", "runtime_error"),
        ("def answer(): return answer()", "runtime_error"),
        ("def other(): return 3", "runtime_error"),
        ("def answer(): return 4", "wrong_output"),
        ("def answer(): return [0] * 10**10", "memory"),
        ("while True: print('x' * 1000)", "output_limit"),
        ("def answer():\n    while True: pass", "timeout"),
        ("def answer(): return 3", "passed"),
    ],
)
def test_each_ending_has_its_name(program: str, ending: str, params: SandboxParams) -> None:
    assert endings(run_watched(program, asserts("assert answer() == 3"), params)) == [ending]


LIAR = """
class Liar:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    def __le__(self, other): return True
    def __gt__(self, other): return True
    def __ge__(self, other): return True
    def __hash__(self): return 0
    def __abs__(self): return self
    def __sub__(self, other): return self
    def __rsub__(self, other): return self
    def __contains__(self, other): return True
    def __float__(self): return 3.0
    def __round__(self, *digits): return self
class Text(str):
    def __eq__(self, other): return True
    __hash__ = str.__hash__
class Items(list):
    def __eq__(self, other): return True
"""


@pytest.mark.parametrize(
    ("program", "test"),
    [
        (LIAR + "def f(): return Liar()", "assert f() == 3"),
        (LIAR + "def f(): return Liar()", "assert 3 == f()"),
        (LIAR + "def f(): return Liar()", "assert not f() != 3"),
        (LIAR + "def f(): return Liar()", "assert abs(f() - 3) < 1e-6"),
        (LIAR + "def f(): return Liar()", "import math; assert math.isclose(f(), 2.5)"),
        (LIAR + "def f(): return Liar()", "assert f() in [1, 2]"),
        (LIAR + "def f(): return Liar()", "assert 3 in f()"),
        (LIAR + "def f(): return [Liar()]", "assert f() == [3]"),
        (LIAR + "def f(): return Text('no')", "assert f() == 'yes'"),
        (LIAR + "def f(): return Items([1])", "assert f() == [1, 2]"),
        ("def abs(x): return 0\ndef f(): return 7", "assert abs(f() - 3) < 1e-6"),
        ("import builtins\nbuiltins.abs = lambda x: 0\ndef f(): return 7", "assert abs(f() - 3) < 1e-6"),
        ("import math\nmath.isclose = lambda *a: True\ndef f(): return 7", "assert math.isclose(f(), 3)"),
        ("import builtins\nbuiltins.AssertionError = SystemExit\ndef f(): return 7", "assert f() == 3"),
        ("def f():\n    raise SystemExit(0)", "assert f() == 3"),
        ("def f():\n    raise KeyboardInterrupt", "assert f() == 3"),
        ("import sys\nsys.modules.clear()\ndef f(): return 7", "assert f() == 3"),
        ("import sys\nsys.settrace(lambda *a: None)\ndef f(): return 7", "assert f() == 3"),
    ],
)
def test_cheats_do_not_pass(program: str, test: str) -> None:
    needs_bubblewrap()
    report = run(program, asserts(test), PARAMS)
    assert report.worst.ending in (Ending.WRONG_OUTPUT, Ending.RUNTIME_ERROR), report.worst


HONEST = [
    ("from collections import Counter\ndef f(x): return Counter(x)", "assert f('aab') == {'a': 2, 'b': 1}"),
    (
        "def f(): return {1, 2}, (3, 4.5), b'x', 1j, None, 2**80",
        "assert f() == ({1, 2}, (3, 4.5), b'x', 1j, None, 2**80)",
    ),
    (
        "def f(): return float('inf'), -0.0, 'é\\ud800', True",
        "assert f() == (float('inf'), 0.0, 'é\\ud800', True)",
    ),
    ("def f(x): x.sort()", "a = [3, 1, 2]; f(a); assert a == [1, 2, 3]"),
    ("def f(g, x): return g(g(x))", "assert f(lambda x: x * 3, 2) == 18"),
    ("def f(g, x): return list(map(g, x))", "assert f(len, ['a', 'bc']) == [1, 2]"),
    ("def f(n): return lambda x: x + n", "assert f(2)(3) == 5"),
    ("def f(n):\n    yield from range(n)", "assert list(f(3)) == [0, 1, 2]"),
    ("def f(n):\n    while True: yield n", "g = f(7); assert next(g) == 7 and next(g) == 7"),
    ("def f(x): return map(str, x)", "assert ' '.join(f([1, 2])) == '1 2'"),
    (
        "def f(x):\n    raise ValueError('no')",
        "try: f(1)\nexcept ValueError as e: assert str(e) == 'no'\nelse: assert False",
    ),
    (
        "class Bad(KeyError): pass\ndef f(): raise Bad",
        "try: f()\nexcept Bad: pass\nelse: assert False",
    ),
    (
        "class Node:\n    def __init__(self, v): self.v, self.left = v, None\n"
        "def f(n): return n.v + (f(n.left) if n.left else 0)",
        "root = Node(3)\nroot.left = Node(4)\n"
        "assert f(root) == 7 and root.left.v == 4 and isinstance(root, Node)",
    ),
    (
        "from fractions import Fraction\ndef f(): return Fraction(1, 3)",
        "from fractions import Fraction; assert f() == Fraction(1, 3)",
    ),
    ("import datetime\ndef f(): return datetime.date(2020, 2, 29)", "assert f().year == 2020"),
    ("def sum(a, b): return a * b", "assert sum(10, 15) == 150"),
    ("import math\ndef f(): return math.pi", "assert math.isclose(f(), 3.14159, rel_tol=1e-5)"),
    ("import re\ndef f(x): return re.search('b', x)", "assert f('abc') and not f('x')"),
    ("LIMIT = 3\ndef f(): return LIMIT", "assert f() == LIMIT"),
    (
        "class P:\n    def __init__(s, x): s.x = x\n    def __eq__(s, o): return s.x == o.x\n"
        "    def __add__(s, o): return P(s.x + o.x)",
        "assert P(1) + P(2) == P(3) and not P(1) == P(2)",
    ),
    ("if __name__ == '__main__': raise SystemExit\ndef f(): return 1", "assert f() == 1"),
    (
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: 'int'\ndef f(): return P(2)",
        "assert f().x == 2",
    ),
]


@pytest.mark.parametrize(("program", "test"), HONEST)
def test_what_tests_do_with_a_program_works_across_the_line(program: str, test: str) -> None:
    needs_bubblewrap()
    report = run(program, asserts(test), PARAMS)
    assert report.worst.ending is Ending.PASSED, report.worst


@pytest.fixture
def fresh_ways() -> None:
    run_module._find_way.cache_clear()


@pytest.mark.parametrize("broken", ["/no/such/program", "/bin/false", "/bin/cat"])
def test_a_box_that_cannot_start_is_no_verdict(
    broken: str, monkeypatch: pytest.MonkeyPatch, fresh_ways: None
) -> None:
    monkeypatch.setattr(ways, "_bubblewrap", lambda: broken)
    quick = SandboxParams(start_seconds=1)
    report = run("def f(): return 1", asserts("assert f() == 1"), quick)
    assert endings(report) == ["sandbox_failed"]
    assert report.worst.detail, "it says why"
    run_module._find_way.cache_clear()


@pytest.mark.medium
@pytest.mark.parametrize("script, said", [
    ("exec >&-; sleep 0.2; echo at last >&2", "at last"),
    ("exec >&-; sleep 0.2; exit 3", "exit code 3"),
    ("exec >&-; echo too much >&2; sleep 30", "too much"),
])  # fmt: skip
def test_a_complaint_may_come_after_the_output_s_end(script: str, said: str) -> None:
    with Popen(["sh", "-c", script], bufsize=0, stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        box = Box(process=process, way="none", info=-1)
        assert box.receive(time.monotonic() + 5) is None
        began = time.monotonic()
        assert box.complaint(1.0 if "30" in script else 5.0) == said and time.monotonic() - began < 4
        process.kill()


def test_a_box_that_stops_starting_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_bubblewrap()
    monkeypatch.setattr(ways, "_files", lambda: (("--ro-bind", "/no/such/folder", "/x"),))
    report = run("def f(): return 1", asserts("assert f() == 1"), PARAMS)
    assert endings(report) == ["sandbox_failed"]
    assert "/no/such/folder" in report.worst.detail


@pytest.mark.parametrize("level", ["none"])
def test_no_box_is_used_only_when_asked_for(level: Level) -> None:
    assert find_way(SandboxParams(level=level)) == ("none",)
    assert SandboxParams().level == "bubblewrap"


@pytest.mark.parametrize(
    "make",
    [lambda: asserts(), lambda: asserts("assert ("), lambda: Calls(function="f", arguments=(), results=())],
)
def test_broken_tests_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError):
        tests: Tests = make()
        del tests
