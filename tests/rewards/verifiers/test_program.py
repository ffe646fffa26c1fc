"""The code verifier, through its real processes and real boxes."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable

import psutil
import pytest
from box_lab import needs_bubblewrap, watched
from pydantic import ValidationError
from verifier_lab import params

import rewards.sandbox.run as run_module
from rewards.sandbox import ways
from rewards.sandbox.suite import Asserts, Calls, InputOutput
from rewards.verifiers.base import Outcome, OutcomeKind, Sample
from rewards.verifiers.process import VerifierPool
from rewards.verifiers.program import CodeParams, CodeVerifier, program_in, read_tests

CORRECT, WRONG = OutcomeKind.CORRECT, OutcomeKind.WRONG
NO_ANSWER, NO_GOLD, FAULT = OutcomeKind.ANSWER_UNPARSABLE, OutcomeKind.GOLD_UNPARSABLE, OutcomeKind.FAULT
Verify = Callable[..., Outcome]

MBPP = {"setup": "import math", "asserts": ["assert area(1) == math.pi", "assert area(0) == 0"]}
HUMANEVAL = {
    "setup": "",
    "asserts": ["METADATA = {}\ndef check(candidate):\n    assert candidate(2) == 4\n\ncheck(double)"],
}
STREAMS = {"inputs": ["1 2\n", ["3", "4"]], "outputs": ["3\n", ["7"]], "fn_name": None}
CALLS = {"inputs": [[[1, 2], 3], "[4]\n5"], "outputs": [6, 9], "fn_name": "total"}
APPS = {"inputs": [[2], [3]], "outputs": [[4], [6]], "fn_name": "double"}
AREA = "import math\ndef area(r):\n    return math.pi * r * r"
SUM = "import sys\nprint(sum(map(int, sys.stdin.read().split())))"


@pytest.mark.parametrize(
    ("tests", "answer", "kind"),
    [
        (MBPP, AREA, CORRECT),
        (json.dumps(MBPP), AREA, CORRECT),
        (MBPP, f"First try:\n```python\n1/0\n```\nBetter:\n```python\n{AREA}\n```\nDone.", CORRECT),
        (MBPP, "def area(r): return 3.14 * r * r", WRONG),
        (MBPP["asserts"], "def area(r): return 0", WRONG),
        (MBPP, "```python\ndef area(r): return", NO_ANSWER),
        (MBPP, "  ", NO_ANSWER),
        (MBPP, "I cannot do that.", WRONG),
        (HUMANEVAL, "def double(x): return 2 * x", CORRECT),
        (HUMANEVAL, "def double(x): return x", WRONG),
        (HUMANEVAL, "def check(candidate): pass\ndef double(x): return x", WRONG),
        (STREAMS, SUM, CORRECT),
        (STREAMS, "print(3)", WRONG),
        (CALLS, "def total(items, more):\n    return sum(items) + more", CORRECT),
        (
            CALLS,
            "class Solution:\n    def total(self, items, more):\n        return sum(items) + more",
            CORRECT,
        ),
        (CALLS, "def total(items, more): return None", WRONG),
        (APPS, "def double(x): return 2 * x", CORRECT),
        (APPS, "def double(x): return [2 * x]", CORRECT),
        (APPS, "def double(x): return [x]", WRONG),
        (None, AREA, NO_GOLD),
        ("not json", AREA, NO_GOLD),
        ({"asserts": ["assert ("]}, AREA, NO_GOLD),
        ({"asserts": []}, AREA, NO_GOLD),
        ({"inputs": ["1"], "outputs": []}, AREA, NO_GOLD),
        ({"inputs": [[1]], "outputs": [1], "fn_name": "os.system"}, AREA, NO_GOLD),
    ],
)
def test_layouts_of_tests(verify: Verify, tests: object, answer: str, kind: OutcomeKind) -> None:
    needs_bubblewrap()
    outcome = verify("", answer, name="code", seconds=60.0, fields={"tests": tests})
    assert outcome.kind is kind, outcome.reason


def test_a_share_of_the_tests_is_a_score_and_never_correct(verify: Verify) -> None:
    needs_bubblewrap()
    tests = {"asserts": ["assert f(1) == 1", "assert f(2) == 2", "assert f(3) == 3", "assert f(4) == 0"]}
    answer = "def f(x): return x"
    outcome = verify("", answer, name="code", seconds=60.0, partial="share", fields={"tests": tests})
    assert (outcome.kind, outcome.score) == (WRONG, 0.75)
    outcome = verify("", answer, name="code", seconds=60.0, fields={"tests": tests})
    assert (outcome.kind, outcome.score) == (WRONG, 0.0)


@pytest.mark.medium
def test_one_that_hangs_is_wrong_in_time_and_its_siblings_are_graded() -> None:
    needs_bubblewrap()
    wanted = params(name="code", processes=2, sandbox={"seconds": 2})
    samples = [
        Sample(question="?", answer=answer, fields={"tests": ["assert f() == 1"]})
        for answer in ("def f(): return 1", "while True: pass", "def f(): return 1", "def f(): return 2")
    ]
    with VerifierPool(wanted) as pool:
        assert pool.wait() is None
        began = time.monotonic()
        outcomes = list(pool.verify(samples))
        assert time.monotonic() - began < 2 + 5
    assert [outcome.kind for outcome in outcomes] == [CORRECT, WRONG, CORRECT, WRONG]
    assert outcomes[1].reason.startswith("timeout")


@pytest.mark.medium
def test_a_killed_verifier_takes_its_box_along() -> None:
    needs_bubblewrap()
    wanted = params(name="code", processes=1, sandbox={"seconds": 600}, seconds=700.0)
    sample = Sample(question="?", answer="while True: pass", fields={"tests": ["assert f() == 1"]})
    with VerifierPool(wanted) as pool, watched() as seen:
        assert pool.wait() is None
        (child,) = pool.pids()

        def kill_once_it_runs() -> None:
            while len(boxed := psutil.Process(child).children(recursive=True)) < 4:
                time.sleep(0.02)
            # On a busy machine the watch may have seen fewer of them before they die.
            seen.update(boxed)
            os.killpg(child, signal.SIGKILL)

        thread = threading.Thread(target=kill_once_it_runs)
        thread.start()
        (outcome,) = pool.verify([sample])
        thread.join()
        pool.close()
        time.sleep(0.5)  # and the watch finds nobody, half a second after its death
    assert outcome.kind is FAULT
    assert len(seen) >= 4


def test_a_box_that_cannot_start_is_a_fault(verify: Verify, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "_bubblewrap", lambda: "/bin/false")
    run_module._find_way.cache_clear()
    verifier = CodeVerifier(CodeParams(name="code"))
    outcome = verifier(Sample(question="?", answer=AREA, fields={"tests": MBPP}))
    run_module._find_way.cache_clear()
    assert outcome.kind is FAULT and outcome.reason.startswith("sandbox: ")
    assert outcome.score is None


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"sandbox\.seconds \+ 5, so 105"):
        params(name="code", sandbox={"seconds": 100})
    with pytest.raises(ValidationError, match=r"memory_mb is more than memory_gb"):
        params(name="code", sandbox={"memory_mb": 8192})


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("a = 1", "a = 1"),
        ("```python\na = 1\n```", "a = 1"),
        ("```\na\n```\nor\n```py\nb\n```\n", "b"),
        ("```\na\n```\nor\n```py\nb", "a"),
        ("```\na", None),
        ("```\n```", None),
        ("", None),
    ],
)
def test_the_last_closed_block_is_the_program(text: str, program: str | None) -> None:
    assert program_in(text) == program


def test_tests_are_read_into_their_kinds() -> None:
    assert read_tests(["assert f()"]) == Asserts(tests=("assert f()",))
    assert read_tests(STREAMS) == InputOutput(pairs=(("1 2\n", "3\n"), ("3\n4", "7")))
    assert read_tests(CALLS) == Calls(function="total", arguments=(([1, 2], 3), ([4], 5)), results=(6, 9))
