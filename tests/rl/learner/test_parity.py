"""Token exactness over whole runs: what the engine recorded is what transformers and the learner compute."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from data.episodes.trajectory import Call, Episode
from data.episodes.wire import read_episodes
from data.forests.collate import collate
from data.forests.forest import build_forest
from data.forests.rows import call_row
from data.forests.split import split_rows
from rl.learner.logprobs import forest_logprobs
from rl.learner.model import load_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TOLERANCE = 1e-4
STAGES = [("reference", "rl"), ("apr", "rl"), ("stale", "ahead"), ("stale", "everything")]
"""Qwen3 at S = 0, llama at S = 1, and Qwen3 at S = 2 at two temperatures."""


@cache
def weights_of(run: Path, stage: str) -> list[Path]:
    """The model directory of each version: where the stage began, then its checkpoint after every step."""
    recipe = json.loads((run / "recipe.json").read_text())
    trained = [s["name"] for s in recipe["stages"] if s["kind"] in ("sft", "rl")]
    before = trained[: trained.index(stage)]
    first = run / "stages" / before[-1] / "model" if before else run / "start"
    return [first, *sorted((run / "stages" / stage).glob("step-*"))]


@pytest.fixture(params=STAGES, ids=lambda pair: "-".join(pair))
def stage(request: pytest.FixtureRequest) -> tuple[Path, str, float]:
    """-> (run, stage, temperature)."""
    name, stage = request.param
    run = Path(request.getfixturevalue(name))
    stages = json.loads((run / "recipe.json").read_text())["stages"]
    return run, stage, next(s["temperature"] for s in stages if s["name"] == stage)


def recorded(run: Path, stage: str) -> Iterator[tuple[Episode, Call]]:
    """Every call that was trained, forks and joins and all."""
    for path in sorted((run / "stages" / stage / "record").glob("*.episodes.jsonl.gz")):
        for episode in read_episodes(path):
            yield from ((episode, call) for call in episode.calls)


def version_of(call: Call) -> list[int]:
    """[T] of each output token."""
    return [span.version for span in call.versions for _ in range(span.start, span.stop)]


@torch.no_grad()
def plain_logprobs(model: Any, episode: Episode, call: Call, temperature: float) -> torch.Tensor:
    """[T] by one unpadded forward pass of exactly what the engine was given and what it sampled."""
    context = episode.context_ids(call)
    logits = model(torch.tensor([[*context, *call.output]])).logits[0, len(context) - 1 : -1]
    return (logits / temperature).log_softmax(-1)[torch.arange(len(call.output)), torch.tensor(call.output)]


def test_the_record_replayed_through_transformers_alone(stage: tuple[Path, str, float]) -> None:
    """Each token under the weights of its own version; the next version's would not do."""
    run, name, temperature = stage
    folders = weights_of(run, name)
    models = [AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval() for path in folders]
    worst, other, tokens = 0.0, 0.0, 0
    for episode, call in recorded(run, name):
        values = torch.tensor(call.logprobs)
        for span in call.versions:
            part = slice(span.start, span.stop)
            expected = plain_logprobs(models[span.version], episode, call, temperature)
            wrong = plain_logprobs(models[span.version + 1], episode, call, temperature)
            if span.stop > span.start:
                worst = max(worst, float((values - expected)[part].abs().max()))
                other = max(other, float((values - wrong)[part].abs().max()))
                tokens += span.stop - span.start
    print(f"{name}: {tokens} tokens, largest difference {worst:.2e} (of the next version: {other:.2e})")
    assert tokens > 500
    assert worst <= TOLERANCE
    assert other > 100 * TOLERANCE


def test_the_learner_recomputes_the_record(stage: tuple[Path, str, float]) -> None:
    """As forests, whole steps at once, by the learner's own code path."""
    run, name, temperature = stage
    rows, recorded_logprobs = defaultdict(list), defaultdict(list)
    for episode, call in recorded(run, name):
        versions = version_of(call)
        for version in set(versions):
            # The weight marks which tokens this version sampled.
            marks = tuple(float(other == version) for other in versions)
            rows[version].append(replace(call_row(episode, call), weights=marks))
            recorded_logprobs[version].append(call.logprobs)
    assert len(rows) > 2
    worst, saved = 0.0, 0
    for version, members in rows.items():
        model = load_model(weights_of(run, name)[version]).eval()
        said = {id(row): values for row, values in zip(members, recorded_logprobs[version], strict=True)}
        for part in split_rows(members, 1024):
            forest = build_forest(part)
            saved += forest.row_tokens - len(forest)
            with torch.no_grad():
                logprobs, _ = forest_logprobs(model, collate(forest), temperature=temperature)
            places = zip(forest.labels.rows, forest.labels.outputs, strict=True)
            expected = torch.tensor([said[id(part[row])][place] for row, place in places])
            worst = max(worst, float((logprobs - expected).abs().max()))
    assert saved > 0
    print(f"{name}: largest difference {worst:.2e}")
    assert worst <= TOLERANCE


def test_calls_were_sampled_across_updates(stale: Path) -> None:
    """Weights arrived while calls ran, and those calls went on: the spans above were not all whole calls."""
    calls = [call for name in ("ahead", "everything") for _, call in recorded(stale, name)]
    across = [call for call in calls if len({span.version for span in call.versions}) > 1]
    print(f"{len(across)} of {len(calls)} calls were sampled by more than one version")
    assert across
    for call in across:
        versions = [span.version for span in call.versions]
        assert versions == sorted(versions)


def test_the_record_has_forks_and_joins(reference: Path, stale: Path) -> None:
    """Or parity would have been shown for prompts and plain completions only."""
    episodes = {episode.id: episode for episode, _ in recorded(reference, "rl")}
    assert any(len(episode.threads) > 1 for episode in episodes.values())
