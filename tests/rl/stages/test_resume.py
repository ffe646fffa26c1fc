"""Stopped in the middle of every stage: the same command goes on, to the same result as that of another run
with the same seed. Kills: test_chaos.
"""

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pickles import pickles

from data.episodes.wire import read_episodes
from rl.evaluation.outcome_file import load_outcomes
from rl.storage.checkpoints import checkpoints
from rl.tracking.metrics import read_metrics, strip_time

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(1200)]


def metrics(run: Path) -> list[dict[str, Any]]:
    return [strip_time(record) for record in read_metrics(run / "metrics.jsonl")]


def weights(run: Path, stage: str) -> bytes:
    return (run / "stages" / stage / "model" / "model.safetensors").read_bytes()


def sampled(run: Path) -> list[Any]:
    """Everything the engine said for training, without times."""
    return [
        (episode.id, call.output, call.logprobs, call.versions, call.stop)
        for path in sorted((run / "stages/rl/record").glob("*.episodes.jsonl.gz"))
        for episode in read_episodes(path)
        for call in episode.calls
    ]


def assert_same_result(run: Path, reference: Path) -> None:
    """As never interrupted: metrics but for times, every sampled token with its log-probability, weights bit
    for bit, figures of the evaluation.
    """
    assert metrics(run) == metrics(reference)
    assert sampled(run) == sampled(reference)
    for stage in ("sft", "rl"):
        assert weights(run, stage) == weights(reference, stage)
    for name in ("sft.sampled", "sft.greedy", "rl.sampled", "rl.greedy"):
        outcomes = [
            [replace(outcome, critical_seconds=0.0) for outcome in load_outcomes(folder / f"{name}.jsonl")]
            for folder in (run / "stages/eval", reference / "stages/eval")
        ]
        assert outcomes[0] == outcomes[1]
    assert (run / "export" / "README.md").exists()


def interrupt(command: Any, happened: Callable[[], bool], *, group: bool = False) -> None:
    """Ctrl-C once something has happened: an orderly end, with the way to go on in the last line."""
    command.wait_until(happened)
    command.signal(signal.SIGINT, group=group)
    sent = time.monotonic()
    assert command.wait(120) == 130, command.output
    # Some seconds on a quiet machine; another session may be at work beside this one.
    assert time.monotonic() - sent < 60
    assert "Traceback" not in command.output
    assert "Resume with the same command" in command.output
    last = command.output.splitlines()[-1].strip()
    assert last.startswith("braid train ") and "--run" in last
    assert command.left_behind() == []


def test_ctrl_c_in_every_stage_leaves_a_run_that_goes_on_to_the_same_result(
    reference: Path, braid: Any, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    run = tmp_path / "run"

    def train() -> Any:
        return braid.train("countdown_cpu", run, tiny)

    sft, rl, evaluation = (run / "stages" / name for name in ("sft", "rl", "eval"))
    interrupt(train(), (sft / "checkpoints/step-000050").exists)
    assert not (sft / "done.json").exists() and pickles(run) == []
    # A damaged checkpoint is put aside and reported; here no earlier one is left.
    for checkpoint in checkpoints(sft / "checkpoints"):
        moments = checkpoint / "optimizer.safetensors"
        moments.write_bytes(moments.read_bytes()[:-100])

    # As a terminal sends it: to every process of the command at once.
    command = train()
    interrupt(command, (rl / "step-000001").exists, group=True)
    assert "optimizer.safetensors is not what was written" in command.output
    assert (sft / "done.json").exists() and not (rl / "done.json").exists()
    supervised = (sft / "model" / "model.safetensors").stat().st_mtime_ns

    interrupt(train(), (evaluation / "sft.greedy.jsonl").exists)
    assert (rl / "done.json").exists() and not (run / "summary.json").exists()
    evaluated = (evaluation / "sft.sampled.jsonl").stat().st_mtime_ns

    braid.complete(train())
    assert_same_result(run, reference)
    assert (sft / "model" / "model.safetensors").stat().st_mtime_ns == supervised
    assert (evaluation / "sft.sampled.jsonl").stat().st_mtime_ns == evaluated
