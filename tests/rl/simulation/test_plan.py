"""`braid plan`: rates of runs whose rates are known, the table, and what a wrong question is told."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_lab import SMALL, Made, write, write_run

from data.errors import ConfigError
from rl import cli
from rl.simulation.choices import MOST_PIECES, Choice, affordable, best_of, table
from rl.simulation.coverage import Coverage, longer
from rl.simulation.load import GroupLoad, Piece
from rl.simulation.measure import full_step_s, measure_rates, recorded_workload
from rl.simulation.plan import Plan, Rates, Workload
from rl.simulation.question import Question, ensure_consistent
from rl.simulation.recorded import read_run
from rl.simulation.report import Report, make_report

ROOT = Path(__file__).parents[3]
BATCHES = [(1, 10), (1, 10), (2, 40), (4, 30), (1, 50), (3, 20), (5, 25), (2, 10), (1, 30), (4, 10)]
"""Calls of each of four episodes, and the tokens of each call."""


def work_s(calls: int, tokens: int) -> float:
    """Seconds of a rollout at 5 ms a step and 0.1 ms for each of 4 * calls calls, with two extra steps."""
    return (tokens + 2) * (0.005 + 0.0001 * 4 * calls)


def synchronous(folder: Path) -> Path:
    steps = [
        Made(calls=calls, tokens=tokens, rollout_s=work_s(calls, tokens), wait_s=work_s(calls, tokens),
             learner_s=0.5 + 0.001 * 4 * calls * tokens)
        for calls, tokens in BATCHES
    ]  # fmt: skip
    return write_run(folder, steps)


def test_rates_of_a_synchronous_run(tmp_path: Path) -> None:
    run = read_run(synchronous(tmp_path))
    rates = measure_rates(run)
    assert rates.step_s == pytest.approx(0.005) and rates.call_s == pytest.approx(0.0001)
    assert rates.call_ticks == 2
    assert rates.learner_s == pytest.approx(0.5) and rates.learner_token_s == pytest.approx(0.001)
    assert rates.publish_s == pytest.approx(0.25)
    assert rates.engine_contention == rates.learner_contention == 1
    load = recorded_workload(run, rates).group(0, 2, 10)
    assert load == GroupLoad((Piece(42, 1, 40),) * 4)
    assert recorded_workload(run, rates, samples=3).group(1, 2, 10) == GroupLoad((Piece(42, 1, 40),) * 6)


def test_rates_of_calls_that_end_among_few(tmp_path: Path) -> None:
    """5 ms a step and 0.1 ms a call: 4 * calls of them take 10 steps together, then 4 go on alone. By time,
    the company of those that go on would be that of their slow steps, and a step without any look faster.
    """
    steps = []
    for calls, tokens in BATCHES:
        together, alone = 10 * (0.005 + 0.0001 * 4 * calls), tokens * (0.005 + 0.0001 * 4)
        steps.append(
            Made(calls=calls, tokens=10 + tokens, rollout_s=together + alone, short=(10, together),
                 wait_s=together + alone, learner_s=0.5)
        )  # fmt: skip
    rates = measure_rates(read_run(write_run(tmp_path, steps)))
    assert rates.step_s == pytest.approx(0.005, rel=0.01) and rates.call_s == pytest.approx(0.0001, rel=0.01)
    assert rates.call_ticks == 0


@pytest.mark.medium
def test_rates_of_a_run_whose_halves_share_cores(tmp_path: Path) -> None:
    """S = 1. Batches 0 and 1 run together, alone (so each decode step has the calls of both), and every later
    one wholly beside a training step: 1.5 times as long, and that step 1.25 times as long for as long. The
    first publish was slow.
    """
    steps = []
    for step, (calls, tokens) in enumerate(BATCHES):
        rollout_s = 1.5 * work_s(calls, tokens) if step > 1 else work_s(2 * calls, tokens)
        beside = 1.5 * work_s(*BATCHES[step + 1]) if 0 < step < len(BATCHES) - 1 else 0.0
        work = 0.5 + 0.001 * 4 * calls * tokens
        steps.append(
            Made(calls=calls, tokens=tokens, rollout_s=rollout_s, wait_s=0.0 if step else rollout_s,
                 learner_s=work + beside * (1 - 1 / 1.25), publish_s=0.25 if step else 2.0)
        )  # fmt: skip
    rates = measure_rates(read_run(write_run(tmp_path, steps, staleness=1)))
    assert rates.engine_contention == pytest.approx(1.5) and rates.learner_contention == pytest.approx(1.25)
    assert rates.step_s == pytest.approx(0.005) and rates.call_s == pytest.approx(0.0001)
    assert rates.learner_s == pytest.approx(0.5) and rates.learner_token_s == pytest.approx(0.001)
    assert rates.publish_s == pytest.approx(0.25)


def test_coverage_by_steps() -> None:
    """Two until 3, nothing until 4; a step of 1 + count seconds: one at 2, one at 0."""
    spans = Coverage(np.array([0.0, 0.0, 4.0]), np.array([3.0, 3.0, 5.0]))
    assert spans.mean_by_steps(np.array([0.0]), np.array([4.0]), 1.0, 1.0).tolist() == pytest.approx([1.0])
    assert spans.mean(np.array([0.0]), np.array([4.0])).tolist() == [1.5]


def test_coverage() -> None:
    """0-4 and 2-6: two of them in 2-4; 1-3 is covered by (1 + 2) / 2 on the mean."""
    both = Coverage(np.array([0.0, 2.0]), np.array([4.0, 6.0]))
    begins, ends = np.array([1.0, 5.0, 7.0]), np.array([3.0, 9.0, 7.0])
    assert both.mean(begins, ends).tolist() == [1.5, 0.25, 0.0]
    assert both.most(begins, ends).tolist() == [2.0, 1.0, 0.0]
    assert both.above(1.0) == [(2.0, 4.0)] and both.above(2.0) == []
    once = Coverage(np.array([0.0, 2.0]), np.array([4.0, 6.0]), at_most=1.0)
    assert once.mean(begins, ends).tolist() == [1.0, 0.25, 0.0]
    assert longer(2.0, np.array([0.5])).tolist() == [pytest.approx(4 / 3)]


def test_decode_steps_while_calls_queue() -> None:
    """One slot, three calls of ten tokens sent at once; steps of 0.1 s, of 0.2 s from the second on."""
    calls = np.array([[0.0, 1.0, 10], [0.0, 3.0, 10], [0.0, 5.0, 10]])
    assert full_step_s(calls, 0.0, 0.0, 1.0, 1, 0.1) == pytest.approx(0.1)
    assert full_step_s(calls, 0.0, 1.0, 3.0, 1, 0.1) == pytest.approx(0.2)


def test_the_table_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run itself comes out as it was."""
    run = synchronous(tmp_path)
    code = cli.main(
        ["plan", str(tmp_path / "r.yaml"), "--from", str(run), "--staleness", "0", "1", "--nodes", "1", "2",
         "--json", str(tmp_path / "plan.json"), "--set", "task.validation_problems=0"]
    )  # fmt: skip
    assert code == 0
    total = sum(work_s(*batch) + 0.5 + 0.004 * batch[0] * batch[1] + 0.25 for batch in BATCHES)
    found = json.loads((tmp_path / "plan.json").read_text())
    first = found["choices"][0]
    assert (first["staleness"], first["engines"], first["groups_per_step"]) == (0, 1, 2)
    assert first["steps_per_hour"] == pytest.approx(36000 / total)
    assert first["token_staleness"] == {"0": 1.0}
    assert [choice["engines"] for choice in found["choices"]] == [1, 1, 2, 2]
    assert [choice["best"] for choice in found["choices"]].count(True) == 1
    printed = capsys.readouterr().out
    assert f"{36000 / total:.1f} steps/h measured" in printed
    assert printed.count("<- best") == 1 and len(printed.splitlines()) == 6 + 3 + 1 + 4


def test_ranks_of_an_engine_are_said_and_not_scaled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = synchronous(tmp_path)
    asked = ["plan", str(tmp_path / "r.yaml"), "--from", str(run), "--staleness", "0"]
    split = [*asked, "--set", "engine.tensor_parallel=2"]
    assert cli.main(asked) == 0 and "rank" not in capsys.readouterr().out.partition("note")[2]
    assert cli.main(split) == 0
    printed = capsys.readouterr().out
    assert "engine of 2 ranks: a decode step with n calls takes 5.00 + 0.1000 n ms" in printed
    assert "note: an engine of the run has 1 rank(s), of this recipe 2 (engine.tensor_parallel)" in printed
    assert cli.main([*split, "--decode-ms", "3", "0.1"]) == 0
    assert "an engine of the run has" not in capsys.readouterr().out


def test_given_rates_need_no_run(tmp_path: Path) -> None:
    """20 decode steps of 10 ms, 4 * 20 tokens at 100 a second, a publish of 0.16 s; nothing else."""
    code = cli.main(
        ["plan", str(write(tmp_path, SMALL)), "--decode-ms", "10", "0", "--learner-tokens-per-s", "100",
         "--publish-s", "0.16", "--episode", "20", "20", "--groups-per-step", "2", "--staleness", "0",
         "--json", str(tmp_path / "plan.json")]
    )  # fmt: skip
    assert code == 0
    (choice,) = json.loads((tmp_path / "plan.json").read_text())["choices"]
    assert choice["steps_per_hour"] == pytest.approx(3600 / (0.2 + 0.8 + 0.16))
    assert choice["waits"]["learner"] == pytest.approx(0.8 / 1.16)
    assert choice["waits_for"] == "learner"


def report(tokens_per_s: float) -> Report:
    spent = {"rollout": 6.0, "learner": 4.0}
    made = make_report([], seconds=10.0, spent=spent, engine_busy_s=15.0, engines=2)
    return replace(made, tokens=10 * tokens_per_s)


def test_the_best_is_the_cheapest_of_the_fast() -> None:
    """1000 is the most; 975 is as good, with fewer engines; 960 is not."""
    choices = [
        Choice(staleness=staleness, engines=engines, groups_per_step=8, report=report(speed))
        for staleness, engines, speed in [(0, 2, 960), (1, 2, 975), (2, 2, 990), (1, 4, 1000)]
    ]
    assert best_of(choices) is choices[1]
    lines = table(choices, best_of(choices)).splitlines()
    assert lines[0].split("  ")[0] == "S" and lines[2].endswith("rollout 60%     <- best")
    assert "25%" in lines[1] and "60%" in lines[1]  # engines worked 15 of 20 s, the learner 4 of 10


def test_a_large_plan_is_made_affordable() -> None:
    """A thousand engines and 512 groups of 40 calls: coarse, and fewer steps over the same training."""
    load = GroupLoad(tuple(Piece(10.0 + index, 1, 10) for index in range(40)))
    rates = Rates(step_s=0.01, call_s=0.0, learner_token_s=1e-6)
    plan = Plan(
        rates=rates, workload=Workload(parts=((load,),)), steps=2000, groups_per_step=512, staleness=2
    )
    small = affordable(replace(plan, engines=1000))
    assert small.steps == MOST_PIECES // (512 * 8 + 1000) == 58
    assert small.workload.group(0, 0, 1).tokens == pytest.approx(400)
    few = replace(plan, steps=10, groups_per_step=2)
    assert affordable(few) is few


def test_too_little_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", str(write(tmp_path, SMALL)), "--decode-ms", "10", "0"]) == 2
    message = capsys.readouterr().err
    assert "--learner-tokens-per-s, --episode missing" in message and "fix: " in message


def test_runs_that_cannot_be_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = synchronous(tmp_path)
    asked = ["plan", str(tmp_path / "r.yaml"), "--from", str(run)]
    assert cli.main([*asked, "--stage", "sft"]) == 2
    assert "has no rl stage 'sft' (it has: rl)" in capsys.readouterr().err
    assert cli.main(["plan", str(tmp_path / "r.yaml"), "--from", str(tmp_path)]) == 2
    assert "is not a run directory" in capsys.readouterr().err
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:-1]))
    assert cli.main(asked) == 2
    assert "has the times of 9 steps of stage 'rl', which made 10" in capsys.readouterr().err
    (run / "stages" / "rl" / "done.json").unlink()
    assert cli.main(asked) == 2
    assert "is not finished" in capsys.readouterr().err


def test_calls_that_all_waited_for_a_slot(tmp_path: Path) -> None:
    """Four live calls and one slot: their times say nothing about a decode step."""
    run = read_run(synchronous(tmp_path))
    engine = run.recipe.engine.model_copy(update={"max_live_calls": 1})
    full = replace(run, recipe=run.recipe.model_copy(update={"engine": engine}))
    with pytest.raises(ConfigError, match="only 0 of 96 recorded calls never waited"):
        measure_rates(full)


@pytest.mark.medium
def test_a_run_foretells_another(tmp_path: Path) -> None:
    """The learner of the other was twice as slow, which nobody could know; the rest is as foretold."""
    run = synchronous(tmp_path / "long")
    steps = [
        Made(calls=calls, tokens=tokens, rollout_s=work_s(calls, tokens), wait_s=work_s(calls, tokens),
             learner_s=2 * (0.5 + 0.001 * 4 * calls * tokens))
        for calls, tokens in BATCHES
    ]  # fmt: skip
    other = write_run(tmp_path / "other", steps)
    command = [
        sys.executable,
        str(ROOT / "scripts/check_plan.py"),
        "--fit",
        str(run),
        "--against",
        str(other),
    ]
    done = subprocess.run([*command, "--json", str(tmp_path / "x.json")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "x.json").read_text())["runs"]
    learner = sum(0.5 + 0.004 * calls * tokens for calls, tokens in BATCHES)
    rest = sum(work_s(*batch) + 0.25 for batch in BATCHES)
    assert row["measured"] == pytest.approx(36000 / (2 * learner + rest))
    assert row["simulated"] == pytest.approx(36000 / (learner + rest))
    assert f"({row['error']:+.1%})" in done.stdout
    bad = subprocess.run([*command[:-1], str(tmp_path)], capture_output=True, text=True)
    assert bad.returncode == 2 and "is not a run directory" in bad.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episodes": [(100.0, 200.0)]}, "--episode 100 200: the longest path has more tokens"),
        ({"episodes": [(0.5, 0.1)]}, "from 1 to 1e\\+09 tokens"),
        ({"decode_ms": (0.0, 0.0)}, "a decode step takes no time"),
        ({"learner_tokens_per_s": 1e-300}, "must be at least 0.001"),
        ({"nodes": [2], "contention": [1.5, 1.0]}, "contradict each other"),
        ({"nodes": [10**8]}, "100000000 engines: at most 100000"),
        ({"groups_per_step": [10**9]}, "--groups-per-step 1000000000: at most 10000"),
        ({"json": Path("/tmp")}, "--json /tmp: is a directory"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    engines = options.get("nodes", [1])
    with pytest.raises(ConfigError, match=message):
        ensure_consistent(Question(**options), engines)
    ensure_consistent(Question(nodes=[2], contention=(1.0, 1.0), episodes=[(200.0, 200.0)]), [2])
