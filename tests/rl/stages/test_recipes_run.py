"""Every shipped recipe, at tiny size, through all its stages: what a user finds in the run directory."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rl.tracking.metrics import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MEASURES = {
    "accuracy",
    "interval",
    "greedy_accuracy",
    "total_tokens",
    "critical_tokens",
    "critical_p90",
    "threads",
    "accuracy_at_critical_budget",
    "problems",
}
"""What the summary promises of every trained stage."""
TOLERANCE = 1e-4


RUNS = {
    "countdown_cpu": "reference",
    "countdown_sequential_cpu": "sequential",
    "countdown_apr": "apr",
    "parts_cpu": "parts",
    "smollm2_cpu": "smollm2_spawn",
    "smollm2_sequential_cpu": "smollm2_sequential",
}
"""Fixture with the run of each recipe."""


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.long) if "smollm2" in name else name for name in RUNS]
)
def run(request: pytest.FixtureRequest) -> Path:
    """The finished run of each recipe, made once."""
    return Path(request.getfixturevalue(RUNS[request.param]))


def test_the_run_directory_has_everything_and_nothing_pickled(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    recipe = json.loads((run / "recipe.json").read_text())
    arm = recipe["protocol"]["name"]
    assert list(summary["arms"]) == [arm]
    assert list(summary["arms"][arm]) == ["sft", "rl"]
    for measures in summary["arms"][arm].values():
        assert measures.keys() >= MEASURES
        low, high = measures["interval"]
        assert 0 <= low <= measures["accuracy"] <= high <= 1
        assert measures["problems"] == 12
        assert 0 < measures["critical_tokens"] <= measures["total_tokens"]
        budgets = next(stage["critical_budgets"] for stage in recipe["stages"] if stage["kind"] == "eval")
        assert list(measures["accuracy_at_critical_budget"]) == list(map(str, budgets))
    assert summary["gain"].keys() == {"from", "to", "points", "interval"}
    assert (summary["gain"]["from"], summary["gain"]["to"]) == ("sft", "rl")
    # Ray, engine, learner and driver cannot take less; the demo may take 6.
    assert 0.5 < summary["peak_memory_gb"] < 6
    assert 1 < summary["seconds"] < 600
    assert (run / "figure.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    lines = list(read_metrics(run / "metrics.jsonl"))
    assert {line["stage"] for line in lines} == {"sft", "rl"}
    assert [line["step"] for line in lines if line["stage"] == "rl"] == [0, 1, 2, 3, 4]
    assert all(any((run / "tensorboard" / stage).glob("events.*")) for stage in ("sft", "rl"))
    pickles = [path for path in run.rglob("*") if path.suffix in {".pkl", ".pt", ".pth", ".bin", ".ckpt"}]
    assert pickles == []
    assert list(run.rglob("*.partial")) == []


@pytest.mark.parametrize("run", [name for name in RUNS if "smollm2" not in name], indirect=True)
def test_the_export_is_what_was_trained(run: Path, braid: Any) -> None:
    """`braid export --verify`: transformers and vLLM, from the exported directory alone, give the episodes of
    the evaluation the log-probabilities that they were sampled with.
    """
    from transformers import AutoTokenizer

    export = run / "export"
    protocol = json.loads((export / "protocol.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(export)
    for tag, token in protocol["tags"].items():
        assert tokenizer(tag, add_special_tokens=False)["input_ids"] == [token]
    assert (export / "README.md").stat().st_size > 500
    final = run / "stages" / "rl" / "model" / "model.safetensors"
    assert (export / "model.safetensors").read_bytes() == final.read_bytes()
    printed = braid.complete(braid.start("export", run, "--output", export, "--verify"))
    for who in ("transformers", "vLLM"):
        (found,) = re.findall(rf"{who}: .* evaluation 'eval' .*largest (\S+), over (\d+) tokens", printed)
        assert float(found[0]) <= TOLERANCE and int(found[1]) > 20
