"""A killed evaluation goes on from the episodes it has, to the figures of an undisturbed one."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from data.episodes.wire import read_episodes
from rl.evaluation.outcome_file import episodes_file, load_outcomes, read_contents
from rl.evaluation.outcomes import Outcome, outcome_to_dict

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(1200)]
STAGE = "eval_rl_spawn_join_test_8"
PROBLEMS = 12


def untimed(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    return [outcome_to_dict(outcome) | {"critical_seconds": None} for outcome in outcomes]


def figures(run: Path) -> dict[str, Any]:
    """The summary without what the machine's speed decides."""
    summary: dict[str, Any] = json.loads((run / "stages" / STAGE / "summary.json").read_text())
    del summary["seconds"], summary["peak_memory_gb"]
    for arms in (summary["arms"], summary["seeds"]):
        arms["spawn_join"].get("rl", arms["spawn_join"].get("0", {}).get("rl")).pop("critical_seconds")
    return summary


def test_killed_at_half_nothing_is_done_again_and_the_figures_are_the_same(
    reference: Path, braid: Any, tmp_path: Path
) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for run in (undisturbed, killed):
        shutil.copytree(reference, run)
    arguments = ("--checkpoint", "rl", "--samples", "8")
    braid.complete(braid.start("eval", undisturbed, *arguments))

    path = killed / "stages" / STAGE / "rl.sampled.jsonl"
    command = braid.start("eval", killed, *arguments)
    command.wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") > (8 * PROBLEMS) // 2)
    command.signal(signal.SIGKILL)
    command.wait()
    command.left_behind()
    before = read_contents(path).outcomes
    assert (8 * PROBLEMS) // 2 <= len(before) < (8 * PROBLEMS)

    output = braid.complete(braid.start("eval", killed, *arguments))
    assert (
        f"rl, sampled: {len(before)}/{(8 * PROBLEMS)} episodes ({len(before)} from an earlier start)"
        in output
    )
    after = {(outcome.problem_id, outcome.sample): outcome for outcome in load_outcomes(path)}
    # Measured seconds never repeat: what was there is there unchanged.
    assert {key: after[key] for key in before} == before
    whole = undisturbed / "stages" / STAGE / "rl.sampled.jsonl"
    assert untimed(list(after.values())) == untimed(load_outcomes(whole))
    assert figures(killed) == figures(undisturbed)
    ids = [[episode.id for episode in read_episodes(episodes_file(file))] for file in (path, whole)]
    assert ids[0] == ids[1] and len(ids[0]) == 64

    # The same command once more: all is there, nothing is sampled.
    content = path.read_bytes()
    assert "sampled:" not in braid.complete(braid.start("eval", killed, *arguments))
    assert path.read_bytes() == content


def test_the_initial_model_is_a_baseline(reference: Path, braid: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(reference, run)
    output = braid.complete(braid.start("eval", run, "--checkpoint", "start"))
    folder = run / "stages" / "eval_start_spawn_join_test_1"
    assert len(load_outcomes(folder / "start.sampled.jsonl")) == PROBLEMS
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["arms"]["spawn_join"].keys() == {"start"} and summary["gain"] is None
    assert "start" in output
    assert (folder / "figure.png").exists()
