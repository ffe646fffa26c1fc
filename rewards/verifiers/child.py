"""The verifier process: `python -P -m rewards.verifiers.child PARAMS PARENT`.

Reads one answer a line from standard input and writes one outcome a line, as JSON. It ends with its parent:
at the end of standard input, by the kernel's signal at the parent's death, and by an alarm that no long
computation can hold up.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import time
from typing import Any, TextIO

from pydantic import TypeAdapter

from data.extensions import files_to_load, load
from rewards.extensions import add_verifiers
from rewards.verifiers.base import Outcome, Sample, Verifier, VerifierParams, fault
from rewards.verifiers.registry import VerifierConfig, build_verifier

_PR_SET_PDEATHSIG = 1
_GRACE_S = 5.0
"""Seconds after an answer's limit at which the alarm ends a process that its parent did not."""
_LONGEST_REASON = 300


def main(params_json: str, parent: int) -> None:
    """Verify answers until standard input ends."""
    _end_with(parent)
    out = _own_output()
    for path in files_to_load():
        add_verifiers(load(path))
    params = TypeAdapter[VerifierParams](VerifierConfig).validate_json(params_json)
    limit = int(params.memory_gb * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        verifier = build_verifier(params)
    except Exception as error:  # whatever a user's file raises; the parent reports it
        _write(out, {"failed": _described(error)})
        return
    _write(out, {"ready": True})
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_REAL, params.seconds + _GRACE_S)
        began = time.perf_counter()
        outcome, whole = _outcome(verifier, json.loads(line))
        signal.setitimer(signal.ITIMER_REAL, 0)
        reply = {
            "kind": outcome.kind.value,
            "score": outcome.score,
            "reason": outcome.reason[:_LONGEST_REASON],
            "seconds": time.perf_counter() - began,
            "last": not whole,
        }
        _write(out, reply)
        if not whole:
            return


def _outcome(verifier: Verifier, request: dict[str, Any]) -> tuple[Outcome, bool]:
    """The outcome, and whether this process is fit for another answer."""
    sample = Sample(
        question=request["question"],
        answer=request["answer"],
        gold=tuple(request["gold"]),
        fields=request["fields"],
    )
    try:
        return verifier(sample), True
    except MemoryError:
        return fault("it ran out of memory"), False
    except Exception as error:  # a verifier runs on model text, and its failure is an outcome
        return fault(f"it raised {_described(error)}"), True


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:_LONGEST_REASON]


def _end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call
        raise SystemExit(1)


def _own_output() -> TextIO:
    """Standard output for outcomes alone: what a verifier prints goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _write(out: TextIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
