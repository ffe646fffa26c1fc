"""The recipe prm_cpu at tiny size, whole: labels by completions, a reward model, RL and search with it."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rl.config import load_recipe
from rl.evaluation.outcome_file import load_outcomes
from rl.tracking.metrics import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

SEARCHES = ("weighted_vote", "best_of_8", "beam", "dvts")
ROOT = Path(__file__).parents[3]
RECIPE = ROOT / "recipes/prm_cpu.yaml"


@pytest.fixture(scope="session")
def process_reward(trained: Callable[[str, str, Sequence[str]], Path], tiny: tuple[str, ...]) -> Path:
    """The run directory of prm_cpu, tiny: every stage, from labels by completions to searches."""
    small = (
        "model.max_length=512", "sample.problems=12", "sample.samples=2", "labels.by.completions=2",
        "prm.steps=2", "prm.warmup_steps=0", "prm.tokens_per_step=512", "prm.forest_tokens=512",
        "outcome.steps=1", "outcome.warmup_steps=0",
        "outcome.groups_per_step=4",
        "outcome.samples_per_group=4", "outcome.minibatches=1", "outcome.validate_every=0",
        "rl.drop_zero_variance=false", "rl.steps=2", "eval.problems=4", "eval.samples=1", "chains.problems=3",
        "chains.samples=4",
        *(f"{name}.problems=2" for name in ("majority", "weighted_vote", "best_of_8", "beam", "dvts")),
    )  # fmt: skip
    return trained("process_reward", "prm_cpu", (*tiny, *small))


def test_only_one_of_both_stages_is_rewarded_by_the_reward_model(process_reward: Path) -> None:
    lines = list(read_metrics(process_reward / "metrics.jsonl"))
    told = [line for line in lines if "scorer/mean" in line]
    assert [(line["stage"], line["step"]) for line in told] == [("rl", 1), ("rl", 2)]
    assert all(0 < line["scorer/mean"] < 1 for line in told)
    assert {line["step"] for line in lines if line["stage"] == "outcome"} == {1}


def test_both_stages_begin_with_the_same_weights(process_reward: Path) -> None:
    recipe = load_recipe(RECIPE)
    outcome, process = (recipe.stage(name).model_dump(mode="json") for name in ("outcome", "rl"))
    assert outcome.pop("start") == process.pop("start") == "sft"
    differ = {key for key in outcome if outcome[key] != process[key]}
    assert differ == {"name", "rewards"}


def test_the_run_says_how_far_its_labels_are_from_the_truth(process_reward: Path) -> None:
    noise = json.loads((process_reward / "stages/labels/noise.json").read_text())
    assert noise["valid"]["steps"] > 0 and 0 <= noise["valid"]["agreement"]["share"] <= 1
    held_out = json.loads((process_reward / "stages/prm/held_out.json").read_text())
    assert held_out["calls"] > 0


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_pay_for_their_scorer(process_reward: Path, name: str) -> None:
    paths = sorted((process_reward / "stages" / name).glob("*.sampled.jsonl"))
    assert [path.name.partition(".")[0] for path in paths] == ["rl", "sft"]
    outcomes = [outcome for path in paths for outcome in load_outcomes(path)]
    assert len(outcomes) == 4
    assert name in ("weighted_vote", "best_of_8") or all(outcome.scorer_tokens > 0 for outcome in outcomes)


def test_the_curve_of_early_rejection_is_read_off_whole_chains(process_reward: Path, tmp_path: Path) -> None:
    written = tmp_path / "curve.json"
    script = [sys.executable, ROOT / "scripts/rejection_curve.py", process_reward, "--json", written]
    where = ("--stage", "chains", "--checkpoint", "sft", "--tau", "8", "440", "--keep", "0.25", "1")
    subprocess.run([*script, *where], check=True, capture_output=True)
    points = json.loads(written.read_text())["points"]
    assert [(row["scorer"], row["tau"], row["keep"]) for row in points] == [
        (scorer, tau, keep) for scorer in ("prm", "exact labels") for tau in (8, 440) for keep in (0.25, 1.0)
    ]
    for row in points:
        assert (row["saved"]["share"] > 0) == (row["tau"] == 8 and row["keep"] == 0.25)

    wrong = subprocess.run([*script, "--stage", "rl", "--checkpoint", "sft"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "is no evaluation" in wrong.stderr and "fix:" in wrong.stderr
    wrong = subprocess.run(
        [*script, "--stage", "beam", "--checkpoint", "sft"], capture_output=True, text=True
    )
    assert wrong.returncode == 2 and "a chain is one text" in wrong.stderr
