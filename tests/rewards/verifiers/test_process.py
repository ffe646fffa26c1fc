"""Verifier processes: one bad answer costs its own grade, and no process outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from verifier_lab import params

from rewards.verifiers.base import Outcome, OutcomeKind, Sample
from rewards.verifiers.process import VerifierPool

HANGING = Path(__file__).with_name("hanging.py")
LIMIT_S = 2.0
CORRECT, FAULT, WRONG = OutcomeKind.CORRECT, OutcomeKind.FAULT, OutcomeKind.WRONG


def samples(answers: Sequence[str]) -> list[Sample]:
    return [Sample(question="?", answer=answer, gold=("right",)) for answer in answers]


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    own = params(
        name="python", file=str(HANGING), function="act", seconds=LIMIT_S, processes=2, memory_gb=4.0
    )
    with VerifierPool(own) as pool:
        pool.start()
        yield pool


def graded(pool: VerifierPool, *answers: str) -> list[Outcome]:
    return list(pool.verify(samples(answers)))


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether a process ends within some seconds; one that is only to be reaped has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.medium
@pytest.mark.parametrize("bad", ["sleep", "hang in C"])
def test_a_late_answer_costs_its_own_grade_and_nobody_a_second(pool: VerifierPool, bad: str) -> None:
    pool.wait()
    began = time.monotonic()
    outcomes = graded(pool, "right", "wrong", bad, "right", "right", "right", "wrong", "right")
    assert time.monotonic() - began < LIMIT_S + 2
    assert [outcome.kind for outcome in outcomes] == [
        CORRECT, WRONG, FAULT, CORRECT, CORRECT, CORRECT, WRONG, CORRECT,
    ]  # fmt: skip
    assert outcomes[2].reason == "not verified within 2 s" and outcomes[2].score is None


@pytest.mark.medium
def test_a_spare_is_started_before_the_late_ones_are_killed(pool: VerifierPool) -> None:
    pool.wait()
    began = time.monotonic()
    outcomes = graded(pool, "sleep", "sleep", "right")
    assert [outcome.kind for outcome in outcomes] == [FAULT, FAULT, CORRECT]
    assert time.monotonic() - began < LIMIT_S + 1


@pytest.mark.medium
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("segfault", "process died (signal 11)"),
        ("exit", "process died (exit code 0)"),
        ("memory", "ran out of memory"),
        ("raise", "raised ValueError: no such luck"),
        ("pid", "raised ResultError: it returned str"),
    ],
)
def test_a_failing_answer_is_a_fault_that_says_why(pool: VerifierPool, bad: str, reason: str) -> None:
    outcomes = graded(pool, bad, "right", bad, "wrong")
    assert [outcome.kind for outcome in outcomes] == [FAULT, CORRECT, FAULT, WRONG]
    assert all(reason in outcomes[index].reason for index in (0, 2))


def test_what_a_verifier_prints_is_no_outcome(pool: VerifierPool) -> None:
    assert [outcome.kind for outcome in graded(pool, "print", "right")] == [WRONG, CORRECT]


@pytest.mark.medium
def test_processes_are_kept(pool: VerifierPool) -> None:
    pool.wait()
    before = set(pool.pids())
    graded(pool, *["right"] * 20)
    assert before and before == set(pool.pids())


@pytest.mark.medium
def test_a_process_that_dies_idle_costs_nothing(pool: VerifierPool) -> None:
    graded(pool, "right", "right")
    for pid in pool.pids():
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
    assert [outcome.kind for outcome in graded(pool, "right", "wrong")] == [CORRECT, WRONG]


def test_a_caller_that_leaves_early_leaves_no_answer_behind(pool: VerifierPool) -> None:
    outcomes = pool.verify(samples(["right", "sleep", "sleep"]))
    assert next(outcomes).kind is CORRECT
    outcomes.close()
    assert [outcome.kind for outcome in graded(pool, "wrong", "right")] == [WRONG, CORRECT]


@pytest.mark.medium
def test_a_child_of_a_late_process_ends_with_it(pool: VerifierPool) -> None:
    assert graded(pool, "child")[0].kind is FAULT
    until = time.monotonic() + 5
    while any(
        "1234.5" in process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"]
    ):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_an_answer_beyond_the_limit_is_not_even_sent(pool: VerifierPool) -> None:
    (outcome,) = graded(pool, "x" * 20_001)
    assert outcome.kind is OutcomeKind.ANSWER_UNPARSABLE
    assert "20001 characters, more than max_characters (20000)" in outcome.reason
    assert graded(pool, "x" * 20_000)[0].kind is WRONG


def test_any_text_crosses_the_pipe(pool: VerifierPool) -> None:
    strange = 'a\nb\r\x00\u2028"\\\ud800 ∀ 𝔸'
    (outcome,) = pool.verify([Sample(question="?", answer=strange, gold=(strange,))])
    assert outcome.kind is CORRECT


@pytest.mark.medium
def test_closing_ends_every_process() -> None:
    with VerifierPool(params(name="exact", processes=2)) as pool:
        pool.start()
        pool.wait()
        pids = pool.pids()
        assert len(pids) == 2
    assert all(not psutil.pid_exists(pid) for pid in pids)


@pytest.mark.medium
def test_a_verifier_that_cannot_start_is_a_fault_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    with VerifierPool(params(name="python", file=str(tmp_path / "broken.py"), function="f")) as pool:
        first, second = graded(pool, "a", "b")
    assert first == second and first.kind is FAULT
    assert "cannot start: ModuleNotFoundError: No module named 'nothing_of_this_name'" in first.reason


@pytest.mark.medium
@pytest.mark.parametrize("answer", ["sleep", "hang in C"])
def test_processes_end_with_their_parent(answer: str) -> None:
    code = f"""
import json, sys, threading, time
from pydantic import TypeAdapter
from rewards.verifiers.base import Sample
from rewards.verifiers.process import VerifierPool
from rewards.verifiers.registry import VerifierConfig
own = {{"name": "python", "file": {str(HANGING)!r}, "function": "act", "seconds": 900.0, "processes": 2}}
pool = VerifierPool(TypeAdapter(VerifierConfig).validate_json(json.dumps(own)))
pool.start(); pool.wait()
print(*pool.pids(), flush=True)
list(pool.verify([Sample(question="?", answer={answer!r}, gold=("right",))]))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2 and all(map(psutil.pid_exists, pids))
        time.sleep(0.3)  # the answer is on its way
        parent.kill()
    assert all(map(gone, pids))
