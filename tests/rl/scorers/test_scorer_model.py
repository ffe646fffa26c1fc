"""Reward models on forests against plain `transformers` token classification of single rows."""

import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForTokenClassification

from data.forests.collate import ForestBatch
from data.forests.rows import TargetRow
from rl.algorithms.losses.soft_labels import soft_label_loss
from rl.learner.scorer_model import LABELS, forest_logits, load_scorer, scores_of
from rl.scorers.trainer import inputs_of


def random_rows(count: int) -> list[TargetRow]:
    """Rows that fork off each other, with hard targets at random places."""
    rng = random.Random(7)
    made: list[TargetRow] = []
    for _ in range(count):
        start = rng.choice(made).ids[: rng.randint(2, 12)] if made else (5, 6, 7)
        output = tuple(rng.randrange(3, 60) for _ in range(rng.randint(2, 14)))
        weights = (*(float(rng.random() < 0.4) for _ in output[:-1]), 1.0)
        targets = tuple(float(rng.random() < 0.5) for _ in output)
        made.append(TargetRow(ids=start + output, first=len(start), weights=weights, targets=targets))
    return made


@pytest.fixture
def trained(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """A saved reward model with a random head."""
    model = load_scorer(tiny_model_dir)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.score.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(tmp_path / "scorer")
    return tmp_path / "scorer"


def test_an_untrained_one_knows_nothing(tiny_model_dir: Path) -> None:
    rows = random_rows(4)
    scores = scores_of(load_scorer(tiny_model_dir), rows)
    assert [len(each) for each in scores] == [sum(map(bool, row.weights)) for row in rows]
    assert {score for each in scores for score in each} == {0.5}


def test_loss_and_gradients_are_those_of_plain_token_classification(trained: Path) -> None:
    rows = random_rows(9)
    ours, plain = load_scorer(trained), AutoModelForTokenClassification.from_pretrained(trained).eval()
    assert plain.config.id2label == LABELS["steps"] and plain.config.num_labels == 2
    inputs = inputs_of(rows)
    weights, targets = inputs.pop("weights"), inputs.pop("soft_labels")
    loss = (weights * soft_label_loss(forest_logits(ours, ForestBatch(**inputs)), targets)).sum()
    loss.backward()
    expected = torch.zeros(())
    for row in rows:
        labels = torch.full((1, len(row)), -100)
        for place, weight in enumerate(row.weights):
            if weight:
                labels[0, row.first + place] = int(row.targets[place])
        mean = plain(input_ids=torch.tensor([row.ids]), labels=labels).loss
        expected = expected + mean * int((labels != -100).sum())
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    theirs = dict(plain.named_parameters())
    for name, parameter in ours.named_parameters():
        gradient = theirs[name].grad
        assert parameter.grad is not None and gradient is not None
        difference = (parameter.grad - gradient).norm() / gradient.norm().clamp_min(1e-12)
        assert float(difference) < 1e-4, name


def test_a_score_does_not_depend_on_what_else_is_scored(trained: Path) -> None:
    rows, model = random_rows(9), load_scorer(trained)
    together = scores_of(model, rows)
    alone = [scores_of(model, [row])[0] for row in rows]
    for one, other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
