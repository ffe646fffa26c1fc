"""Training of a reward model: the weighted mean of the cross-entropy over all targets of all ranks."""

from collections.abc import Sequence
from dataclasses import fields
from itertools import islice
from typing import Any

import torch
from datasets import Dataset

from data.errors import ConfigError
from data.forests.collate import ForestBatch, collate
from data.forests.forest import build_forest
from data.forests.rows import TargetRow
from data.whole_file import json_line, whole_file
from rl.algorithms.losses.soft_labels import soft_label_loss
from rl.config.stages import RewardModelStage
from rl.imitation.forest_trainer import ForestTrainer, begin, train
from rl.imitation.job import SupervisedJob
from rl.imitation.progress import ProgressWriter
from rl.learner.masters import round_weights
from rl.learner.scorer_model import forest_logits, load_scorer, scores_of
from rl.scorers.held_out import HELD_OUT
from rl.scorers.row_file import TargetRows


class ScorerTrainer(ForestTrainer):
    """The loss of a reward model."""

    def weighted_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """[] Sum of the weighted cross-entropies."""
        weights, targets = inputs.pop("weights"), inputs.pop("soft_labels")
        logits = forest_logits(model, ForestBatch(**inputs), bfloat16=self.bfloat16)
        return (weights * soft_label_loss(logits, targets)).sum()


def train_scorer(job: SupervisedJob, source: TargetRows) -> None:
    """Runs one rank to the end; rank 0 then scores the calls that were held out.

    Raises as `forest_trainer.train`.
    """
    stage = job.stage
    assert isinstance(stage, RewardModelStage)
    progress = begin(job)
    model = load_scorer(job.checkpoint or job.model_dir)
    masters = round_weights(model) if stage.weights == "bfloat16" else {}
    train(
        job,
        ScorerTrainer,
        model,
        masters,
        dataset=_dataset(source, stage, progress),
        collate=_collate,
        tokenizer=source.codec.tokenizer,
        progress=progress,
    )
    if progress is not None:
        _score_held_out(job, source, model, progress)


def _dataset(source: TargetRows, stage: RewardModelStage, progress: ProgressWriter | None) -> Dataset:
    """A table with the rows of one forest in each line, as many as the training needs or there are.

    Raises ConfigError when no call fits into a forest.
    """
    needed = stage.steps * (stage.tokens_per_step // stage.forest_tokens)
    table: list[dict[str, Any]] = []
    for rows in islice(source.forests(stage.forest_tokens), needed):
        if progress is not None:
            progress.doing("making forests of labelled calls", len(table), needed)
        table.append(
            {
                "ids": [list(row.ids) for row in rows],
                "first": [row.first for row in rows],
                "weights": [list(row.weights) for row in rows],
                "targets": [list(row.targets) for row in rows],
            }
        )
    if not table:
        raise ConfigError(
            f"{stage.name}.forest_tokens = {stage.forest_tokens}: every labelled call is longer\n"
            "  fix: raise it"
        )
    if progress is not None and source.left_out.calls:
        progress.note(str(source.left_out))
    return Dataset.from_list(table)


def _collate(tables: list[dict[str, Any]]) -> dict[str, Any]:
    """The tensors of one forest."""
    (table,) = tables
    columns = (table["ids"], table["first"], table["weights"], table["targets"])
    rows = [
        TargetRow(ids=tuple(ids), first=first, weights=tuple(weights), targets=tuple(targets))
        for ids, first, weights, targets in zip(*columns, strict=True)
    ]
    return inputs_of(rows)


def inputs_of(rows: Sequence[TargetRow]) -> dict[str, torch.Tensor]:
    """The fields of a ForestBatch, `weights` [L] and `soft_labels` [L]."""
    forest = build_forest(rows)
    batch = collate(forest)
    labels = list(zip(forest.labels.rows, forest.labels.outputs, strict=True))
    return {
        **{field.name: getattr(batch, field.name) for field in fields(batch)},
        "weights": torch.tensor([rows[row].weights[place] for row, place in labels]),
        "soft_labels": torch.tensor([rows[row].targets[place] for row, place in labels]),
    }


def _score_held_out(job: SupervisedJob, source: TargetRows, model: Any, progress: ProgressWriter) -> None:
    """Writes the scores of every call that was held out beside its targets."""
    calls = source.held_out()
    with whole_file(job.output_dir / HELD_OUT) as file:
        for number, call in enumerate(calls):
            progress.doing("scoring held-out calls", number, len(calls))
            (scores,) = scores_of(model, [call.row], bfloat16=job.stage.bfloat16)
            targets = [call.row.targets[place] for place in call.places]
            line = {"problem": call.problem_id, "episode": call.episode_id}
            file.write(json_line({**line, "targets": targets, "scores": scores}))
