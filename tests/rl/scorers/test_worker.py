"""A hosted scorer: where its scores stand, and that they are the model's on each call alone."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForTokenClassification

from data.episodes.trajectory import Episode
from data.errors import ConfigError
from data.steps.step import StepKind
from data.tasks.countdown import Countdown
from data.tasks.problem import Problem
from data.text.codec import load_codec
from rl.learner.scorer_model import load_scorer
from rl.scorers.worker import ScorerSettings, ScorerWorker
from rollout.offline import drive
from rollout.protocols import build_protocol, default_params

PROBLEM = Problem("p", "countdown", {"numbers": [10, 9, 4, 2], "target": 41})
SAID = "<try> 9 * 4 10 2 36 <try> 10 / 2 5 36 <answer> 9 * 4 10 / 2 36 + 5 <eos>"


@pytest.fixture(scope="module")
def model_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model with a random head."""
    model, generator = load_scorer(tiny_model_dir), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.score.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    folder = tmp_path_factory.mktemp("scorer")
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def episode(tiny_model_dir: Path) -> Episode:
    """One call of three lines."""
    codec = load_codec(tiny_model_dir)
    said = tuple(codec.tokenizer(SAID)["input_ids"])
    protocol = build_protocol(default_params("sequential"), codec)
    return drive(protocol, Countdown().prompt(PROBLEM), lambda _: said)


def settings(model_dir: Path, tokenizer_dir: Path, **changes: object) -> ScorerSettings:
    given: dict[str, object] = {"target": "steps", "step": StepKind.LINE, "forest_tokens": 256} | changes
    return ScorerSettings(model_dir=model_dir, tokenizer_dir=tokenizer_dir, **given)  # type: ignore[arg-type]


def test_scores_are_those_of_plain_transformers(
    model_dir: Path, tiny_model_dir: Path, episode: Episode
) -> None:
    worker = ScorerWorker(settings(model_dir, tiny_model_dir), Countdown().params)
    worker.ready()
    first, second = worker.score_group(PROBLEM, [episode, episode, episode], 1)
    assert first == second and isinstance(first, tuple) and len(first) == 3
    (call,) = episode.calls
    context = episode.context_ids(call)
    plain = AutoModelForTokenClassification.from_pretrained(model_dir).eval()
    with torch.no_grad():
        right = plain(input_ids=torch.tensor([context + call.output])).logits[0].softmax(-1)[:, 1]
    for step in first:
        assert step.value == pytest.approx(right[len(context) + step.stop - 1].item(), abs=1e-5)
        assert step.start < step.stop <= len(call.output)
    assert len({round(step.value, 4) for step in first}) == 3


def test_an_outcome_is_scored_at_the_end(model_dir: Path, tiny_model_dir: Path, episode: Episode) -> None:
    worker = ScorerWorker(settings(model_dir, tiny_model_dir, target="outcome"), Countdown().params)
    (found,) = worker.score_group(PROBLEM, [episode])
    assert isinstance(found, tuple)
    assert [(step.call, step.start, step.stop) for step in found] == [(0, 0, len(episode.calls[0].output))]


def test_a_call_beyond_a_forest_has_no_opinion(
    model_dir: Path, tiny_model_dir: Path, episode: Episode
) -> None:
    worker = ScorerWorker(settings(model_dir, tiny_model_dir, forest_tokens=20), Countdown().params)
    assert list(worker.score_group(PROBLEM, [episode])) == ["a call is longer than scorer.forest_tokens = 20"]


def test_a_model_of_a_smaller_vocabulary_is_refused(
    model_dir: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    model = load_scorer(model_dir)
    model.resize_token_embeddings(30)
    model.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="has 30 embeddings, the run's tokenizer"):
        ScorerWorker(settings(tmp_path, tiny_model_dir), Countdown().params)
