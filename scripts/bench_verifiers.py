"""How many answers a second each verifier grades in one process, and what the process itself costs.

    python scripts/bench_verifiers.py --answers 400 --json verifiers.json

Answers go through `VerifierPool` with one process, as in reward workers. Groups of eight share a gold answer,
as in training; other answers go before, because parsers build their tables as they go. One core does it all.

The file: NAME_per_s for each verifier, overhead_NAME (share of the time that was not spent in the verifier,
but on pipes, JSON and waking up), NAME_start_s, NAME_right (share of correct answers), and for short
`overhead`: that of math. `code_per_s` counts programs, each in a box of its own; where no box starts, `code`
says why. On a busy machine give it precedence: `nice -n -20 python scripts/bench_verifiers.py`.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from rewards.verifiers.base import OutcomeKind, Sample, VerifierParams
from rewards.verifiers.process import VerifierPool
from rewards.verifiers.registry import VerifierConfig

GROUP = 8
WARM = 48
"""Answers that go before and are not counted."""
QUOTE = {"instruction_id_list": ["punctuation:no_comma", "startend:quotation"], "kwargs": [{}, {}]}
PROGRAM = "```python\nprint(int(input()) + {index})\n```"


def samples_of(name: str, count: int, first: int = 0) -> list[Sample]:
    """`count` answers in groups of eight, half of them right, from number `first` on."""
    return [_sample(name, index // GROUP, index % GROUP) for index in range(first, first + count)]


def _sample(name: str, problem: int, index: int) -> Sample:
    right = index % 2 == 0
    value = problem if right else problem + index
    question, fields = f"Question {problem}?", {}
    match name:
        case "math":
            # A third each of whole numbers, fractions and roots, and formulas.
            golds = (f"{problem}", rf"\frac{{{problem}}}{{7}}+\sqrt{{{problem + 2}}}", f"x^2+{problem}x")
            forms = (f"{value}", rf"\boxed{{\sqrt{{{value + 2}}} + \frac{{{value}}}{{7}}}}", f"x(x+{value})")
            gold, answer = golds[problem % 3], forms[problem % 3]
        case "gsm8k":
            gold, answer = f"#### {problem}", f"So it is {value}."
        case "choice":
            gold, answer = "ABCD"[problem % 4], f"({'ABCD'[value % 4]})"
        case "json":
            gold, answer = json.dumps({"n": problem}), json.dumps({"n": value})
        case "ifeval":
            gold, answer, fields = "", f'"{value}"' if right else f"{value}", QUOTE
        case "code":
            gold, answer = "", PROGRAM.format(index=index % 2)
            fields = {"tests": {"inputs": [f"{problem}\n"], "outputs": [f"{problem}\n"]}}
        case _:
            gold, answer = f"{problem}", f"{value}"
    return Sample(question=question, answer=answer, gold=(gold,) if gold else (), fields=fields)


def measure(name: str, count: int) -> dict[str, Any]:
    """Figures of one verifier, or `{name: reason}` where it cannot grade."""
    params: VerifierParams = TypeAdapter[VerifierParams](VerifierConfig).validate_python(
        {"name": name, "processes": 1}
    )
    samples = samples_of(name, count)
    began = time.monotonic()
    with VerifierPool(params) as pool:
        if refused := pool.wait():
            return {name: refused}
        start = time.monotonic() - began
        first = next(pool.verify(samples[:1]))
        if first.kind not in (OutcomeKind.CORRECT, OutcomeKind.WRONG):
            return {name: first.reason}
        list(pool.verify(samples_of(name, min(count, WARM), first=count)))
        before, began = pool.seconds, time.monotonic()
        outcomes = list(pool.verify(samples))
        seconds = time.monotonic() - began
        inside = pool.seconds - before
    return {
        f"{name}_per_s": count / seconds,
        f"overhead_{name}": 1 - inside / seconds,
        f"{name}_start_s": start,
        f"{name}_right": sum(outcome.kind is OutcomeKind.CORRECT for outcome in outcomes) / count,
    }


NAMES = ("math", "gsm8k", "exact", "numeric", "choice", "json", "ifeval", "code")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark. -> exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--answers", type=int, default=400, help="answers of each verifier")
    parser.add_argument("--verifiers", nargs="+", choices=NAMES, default=NAMES, help="default: all")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args(arguments)
    if options.answers < 1:
        parser.error("--answers must be at least 1")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core for both, and for the children
    figures: dict[str, Any] = {"answers": options.answers}
    for name in options.verifiers:
        found = measure(name, options.answers)
        figures |= found
        rate = found.get(f"{name}_per_s")
        if rate is None:
            print(f"{name:8} cannot be measured: {found[name]}")
            continue
        share, start = found[f"overhead_{name}"], found[f"{name}_start_s"]
        print(f"{name:8} {rate:9.1f} answers/s, {share:4.0%} of it the process, started in {start:.1f} s")
    if "overhead_math" in figures:
        figures["overhead"] = figures["overhead_math"]
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
