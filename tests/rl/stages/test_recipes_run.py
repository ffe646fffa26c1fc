"""Every shipped recipe, at tiny size, through all its stages: what a user finds in the run directory."""

import asyncio
import json
import math
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


@pytest.fixture(params=["countdown_cpu", "countdown_sequential_cpu", "countdown_apr", "parts_cpu"])
def run(request: pytest.FixtureRequest) -> Path:
    """The finished run of each recipe, made once."""
    names = {"countdown_sequential_cpu": "sequential", "countdown_apr": "apr", "parts_cpu": "parts"}
    return Path(request.getfixturevalue(names.get(request.param, "reference")))


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


def test_the_export_answers_alike_in_transformers_and_in_vllm(run: Path) -> None:
    """An engine started from the exported directory alone, asked a held-out problem."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from data.tasks.problem import load_problems
    from data.tasks.registry import build_task
    from rl.config import load_recipe
    from rollout.engines.base import EngineRequest
    from rollout.engines.vllm_engine import VllmEngine
    from rollout.engines.vllm_settings import VllmSettings

    export = run / "export"
    protocol = json.loads((export / "protocol.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(export)
    for tag, token in protocol["tags"].items():
        assert tokenizer(tag, add_special_tokens=False)["input_ids"] == [token]
    assert (export / "README.md").stat().st_size > 500
    model = AutoModelForCausalLM.from_pretrained(export, dtype=torch.float32).eval()
    final = run / "stages" / "rl" / "model" / "model.safetensors"
    assert (export / "model.safetensors").read_bytes() == final.read_bytes()
    task = build_task(load_recipe(run / "recipe.json").task.params)
    problems = load_problems(run / "problems" / "test.jsonl")[:4]
    requests = [
        EngineRequest(
            id=str(number),
            prompt=tuple(tokenizer(task.prompt(problem).text, add_special_tokens=False)["input_ids"]),
            stops=(protocol["eos"],),
            max_tokens=40,
            temperature=1.0,
            seed=number,
        )
        for number, problem in enumerate(problems)
    ]

    async def sample() -> list[Any]:
        settings = VllmSettings(model_dir=export, max_length=protocol["max_length"], kv_cache_gb=0.05)
        engine = await VllmEngine.start(settings)
        try:
            return list(await asyncio.gather(*map(engine.generate, requests)))
        finally:
            engine.shutdown()

    worst, tokens = 0.0, 0
    for request, result in zip(requests, asyncio.run(sample()), strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([[*request.prompt, *result.output]])).logits[0].double()
        expected = logits.log_softmax(-1)[len(request.prompt) - 1 : -1]
        for position, (token, logprob) in enumerate(zip(result.output, result.logprobs, strict=True)):
            worst = max(worst, abs(logprob - expected[position, token].item()))
            tokens += 1
    assert tokens > 20
    assert not math.isnan(worst) and worst <= TOLERANCE
