"""A hosted scorer: where its scores stand, and that they are the model's on each call alone."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForTokenClassification

from data.episodes.trajectory import Episode
from data.errors import ConfigError
from data.tasks.countdown import Countdown
from rl.learner.scorer_model import load_scorer
from rl.scorers.worker import ScorerWorker
from tests.support.scorer_lab import PROBLEM, one_call, settings, truncated


@pytest.fixture
def episode(tiny_model_dir: Path) -> Episode:
    """One call of three lines."""
    return one_call(tiny_model_dir)


def test_scores_are_those_of_plain_transformers(
    tiny_scorer: Path, tiny_model_dir: Path, episode: Episode
) -> None:
    worker = ScorerWorker(settings(tiny_scorer, tiny_model_dir), Countdown().params)
    worker.ready()
    first, second = worker.score_group(PROBLEM, [episode, episode, episode], 1)
    assert first == second and isinstance(first, tuple) and len(first) == 3
    (call,) = episode.calls
    context = episode.context_ids(call)
    plain = AutoModelForTokenClassification.from_pretrained(tiny_scorer).eval()
    with torch.no_grad():
        right = plain(input_ids=torch.tensor([context + call.output])).logits[0].softmax(-1)[:, 1]
    for step in first:
        assert step.value == pytest.approx(right[len(context) + step.stop - 1].item(), abs=1e-5)
        assert step.start < step.stop <= len(call.output)
    assert len({round(step.value, 4) for step in first}) == 3


def test_a_call_beyond_a_forest_has_no_opinion(
    tiny_scorer: Path, tiny_model_dir: Path, episode: Episode
) -> None:
    worker = ScorerWorker(settings(tiny_scorer, tiny_model_dir, forest_tokens=20), Countdown().params)
    assert list(worker.score_group(PROBLEM, [episode])) == ["a call is longer than scorer.forest_tokens = 20"]


def test_a_model_of_a_smaller_vocabulary_is_refused(
    tiny_scorer: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    model = load_scorer(tiny_scorer)
    model.resize_token_embeddings(30)
    model.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="has 30 embeddings, the run's tokenizer"):
        ScorerWorker(settings(tmp_path, tiny_model_dir), Countdown().params)


def test_a_truncated_file_is_refused_by_name(tiny_scorer: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    broken = truncated(tiny_scorer, tmp_path / "broken")
    with pytest.raises(ConfigError, match=r"broken: the reward model cannot be read \((?s:.*)fix: restore"):
        ScorerWorker(settings(broken, tiny_model_dir), Countdown().params)
