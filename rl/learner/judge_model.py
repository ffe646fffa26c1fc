"""Verdicts of a language model without sampling: how probable it finds that it calls a step right."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from data.errors import ConfigError
from data.forests.collate import collate
from data.forests.forest import build_forest
from data.forests.rows import Row
from rl.learner.logprobs import forest_logprobs
from rl.learner.model import load_model

Pair = tuple[Row, Row]
"""The same text with the verdict right and with the verdict wrong; the weights are on what differs."""


def load_judge(directory: Path, vocabulary: int) -> Any:
    """A language model of the run's tokenizer, of `vocabulary` ids. Raises ConfigError when its files are
    missing or damaged, or it has fewer embeddings.
    """
    try:
        model = load_model(directory, vocabulary)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"{directory}: the judge cannot be read ({error})\n"
            "  fix: restore the directory, or train the judge again"
        ) from error
    rows = model.get_input_embeddings().weight.shape[0]
    if rows < vocabulary:
        raise ConfigError(
            f"{directory}: has {rows} embeddings, the run's tokenizer {vocabulary} ids\n"
            "  fix: take a judge of the same tokenizer as the policy's"
        )
    return model


@torch.no_grad()
def verdict_scores(model: Any, pairs: Sequence[Pair]) -> list[float]:
    """p(right) / (p(right) + p(wrong)) of each pair, in one pass over the forest of all rows.

    p(verdict): product of the probabilities of its tokens that carry weight, at temperature 1. `model`: that
    of `load_judge`.
    """
    rows = [row for pair in pairs for row in pair]
    forest = build_forest(rows)
    values, _ = forest_logprobs(model, collate(forest).to(model.device))
    sums = [0.0] * len(rows)
    for row, place, value in zip(forest.labels.rows, forest.labels.outputs, values.tolist(), strict=True):
        sums[row] += value if rows[row].weights[place] else 0.0
    both = torch.tensor(sums, dtype=torch.float64).view(-1, 2)
    found: list[float] = torch.softmax(both, dim=-1)[:, 0].tolist()
    return found
