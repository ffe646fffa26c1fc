"""Speed of the verifiers: answers per second through one verifier process, and what the process itself costs.

python scripts/bench_verifiers.py --json verifiers.json

Each verifier is asked the same right answer again and again, once through its process, as in training, and
once by a plain call in this process (verifiers that run in no sandbox). Programs are trivial: `def add(a, b):
return a + b`.

The file: NAME_per_s for each verifier (math_per_s, ..., code_per_s: programs through one process, each in a
box of its own), NAME_overhead (share of the time that is the way to the process and back), overhead (that of
math). On a busy machine take one core: `taskset -c 0 nice -n -20 python scripts/bench_verifiers.py`.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rewards.verifiers.base import OutcomeKind, Sample
from rewards.verifiers.choice import ChoiceParams
from rewards.verifiers.exact import ExactParams
from rewards.verifiers.gsm8k import Gsm8kParams
from rewards.verifiers.json_value import JsonParams
from rewards.verifiers.math_answer import MathParams
from rewards.verifiers.numeric import NumericParams
from rewards.verifiers.process import VerifierPool
from rewards.verifiers.program import CodeParams
from rewards.verifiers.registry import AnyVerifierParams, build_verifier

PROGRAM = "def add(a, b):\n    return a + b"
TESTS = {"asserts": ["assert add(1, 2) == 3"]}
CASES: dict[str, tuple[AnyVerifierParams, Sample]] = {
    "math": (
        MathParams(name="math", processes=1),
        Sample(question="?", answer=r"\frac{1}{2} + x", gold=(r"x + 0.5",)),
    ),
    "gsm8k": (Gsm8kParams(name="gsm8k", processes=1), Sample(question="?", answer="72", gold=("#### 72",))),
    "exact": (ExactParams(name="exact", processes=1), Sample(question="?", answer="a b", gold=("a  b",))),
    "numeric": (
        NumericParams(name="numeric", processes=1),
        Sample(question="?", answer="2.5", gold=("2.50",)),
    ),
    "choice": (ChoiceParams(name="choice", processes=1), Sample(question="?", answer="B", gold=("B",))),
    "json": (
        JsonParams(name="json", processes=1),
        Sample(question="?", answer='{"a": 1}', gold=('{"a": 1.0}',)),
    ),
    "code": (
        CodeParams(name="code", processes=1),
        Sample(question="?", answer=PROGRAM, fields={"tests": TESTS}),
    ),
}
"""What each verifier is asked; the answer is right."""


def rate(work: Callable[[int], None], seconds: float) -> float:
    """Answers per second of `work(n)`, over about that many seconds, in growing batches."""
    done, count, began = 0, 1, time.perf_counter()
    while (used := time.perf_counter() - began) < seconds:
        work(count)
        done += count
        count = min(2 * count, 4096)
    return done / used if used and done else done / (time.perf_counter() - began)


def through_process(params: AnyVerifierParams, sample: Sample, seconds: float) -> float:
    """Answers per second through one process that has started."""
    with VerifierPool(params) as pool:
        refused = pool.wait()
        assert refused is None, refused

        def work(count: int) -> None:
            for outcome in pool.verify([sample] * count):
                assert outcome.kind is OutcomeKind.CORRECT, outcome

        work(1)
        return rate(work, seconds)


def plain(params: AnyVerifierParams, sample: Sample, seconds: float) -> float:
    """Answers per second of calls in this process."""
    verifier = build_verifier(params)

    def work(count: int) -> None:
        for _ in range(count):
            assert verifier(sample).kind is OutcomeKind.CORRECT

    work(1)
    return rate(work, seconds)


def measure(names: list[str], seconds: float) -> dict[str, float]:
    """The figures of the file."""
    figures: dict[str, float] = {}
    for name in names:
        params, sample = CASES[name]
        figures[f"{name}_per_s"] = through_process(params, sample, seconds)
        if name != "code":
            figures[f"{name}_overhead"] = 1 - figures[f"{name}_per_s"] / plain(params, sample, seconds)
    if "math" in names:
        figures["overhead"] = figures["math_overhead"]
    return figures


def main() -> int:
    """Run the benchmark. -> exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--verifiers", nargs="+", choices=list(CASES), default=list(CASES), help="default: all"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each figure (default 3)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    figures = measure(given.verifiers, given.seconds)
    for name, value in figures.items():
        print(f"{name:<20} {value:10.3g}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
