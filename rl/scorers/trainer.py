"""Training of a reward model: the mean loss over all targets, or over all pairs, of all ranks."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import partial
from itertools import islice
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from data.errors import ConfigError
from data.forests.collate import ForestBatch, collate
from data.forests.forest import Forest, build_forest
from data.forests.rows import TargetRow
from data.whole_file import json_line, whole_file
from rl.algorithms.losses.binary import binary_loss
from rl.algorithms.losses.bradley_terry import bradley_terry_loss
from rl.algorithms.losses.soft_labels import soft_label_loss
from rl.config.outcome_loss import BradleyTerryLoss
from rl.config.stages import RewardModelStage
from rl.imitation.forest_trainer import ForestTrainer, begin, train
from rl.imitation.job import SupervisedJob
from rl.imitation.progress import ProgressWriter
from rl.learner.scorer_model import forest_logits, scorer_to_train, scores_of
from rl.scorers.held_out import HELD_OUT
from rl.scorers.pair_file import PairForest, PairRows
from rl.scorers.row_file import TargetRows
from rl.seeds import purpose_seed


class ScorerTrainer(ForestTrainer):
    """The loss of a reward model of single texts."""

    def weighted_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """[] Sum of the weighted cross-entropies."""
        weights, targets = inputs.pop("weights"), inputs.pop("soft_labels")
        logits = forest_logits(model, ForestBatch(**inputs), bfloat16=self.bfloat16)
        losses = (
            binary_loss(logits[:, 0], targets) if logits.shape[-1] == 1 else soft_label_loss(logits, targets)
        )
        return (weights * losses).sum()


class PairTrainer(ForestTrainer):
    """The loss of a reward model of pairs."""

    def weighted_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """[] Sum over the pairs."""
        weights, margins, center = (inputs.pop(name) for name in ("weights", "margins", "center"))
        better, worse = inputs.pop("better"), inputs.pop("worse")
        rewards = forest_logits(model, ForestBatch(**inputs), bfloat16=self.bfloat16)[:, 0]
        losses = bradley_terry_loss(rewards[better], rewards[worse], margins, center=float(center))
        return (weights * losses).sum()


class _Padding(TrainerCallback):
    """Saves a model without the padding token that the trainer has taken over from the tokenizer, where that
    is an end: `transformers` scores the last token that is no padding, so it would look in front of the end.
    """

    def __init__(self, ends: Sequence[int]) -> None:
        self._ends = ends

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        config = model.config.get_text_config()
        if config.pad_token_id in self._ends:
            config.pad_token_id = None


def train_scorer(job: SupervisedJob, source: TargetRows | PairRows) -> None:
    """Runs one rank to the end; rank 0 then scores the calls that were held out.

    Raises as `forest_trainer.train`, and ConfigError for adapters that do not fit the model.
    """
    stage = job.stage
    assert isinstance(stage, RewardModelStage)
    progress = begin(job)
    calls = source.calls if isinstance(source, PairRows) else source
    model, masters = scorer_to_train(
        job.model_dir,
        stage.target,
        stage.lora,
        checkpoint=job.checkpoint,
        seed=purpose_seed(job.seed, f"{stage.name}/lora"),
        rounded=stage.weights == "bfloat16",
    )
    train(
        job,
        PairTrainer if isinstance(source, PairRows) else ScorerTrainer,
        model,
        masters,
        dataset=_dataset(source, stage, progress),
        collate=partial(_collate, stage=stage),
        tokenizer=calls.codec.tokenizer,
        progress=progress,
        callbacks=[_Padding(calls.codec.ends)],
    )
    if progress is not None:
        _score_held_out(job, calls, model, progress)


def _dataset(
    source: TargetRows | PairRows, stage: RewardModelStage, progress: ProgressWriter | None
) -> Dataset:
    """A table with the rows of one forest in each line, as many as the training needs or there are.

    Raises ConfigError when no call fits into a forest.
    """
    needed = stage.steps * (stage.tokens_per_step // stage.forest_tokens)
    table: list[dict[str, Any]] = []
    forests: Iterator[list[TargetRow] | PairForest] = source.forests(stage.forest_tokens)
    for made in islice(forests, needed):
        if progress is not None:
            progress.doing("making forests of labelled calls", len(table), needed)
        forest = made if isinstance(made, PairForest) else PairForest(rows=made, pairs=[])
        table.append(
            {
                "ids": [list(row.ids) for row in forest.rows],
                "first": [row.first for row in forest.rows],
                "weights": [list(row.weights) for row in forest.rows],
                "targets": [list(row.targets) for row in forest.rows],
                "better": [better for better, _, _ in forest.pairs],
                "worse": [worse for _, worse, _ in forest.pairs],
                "margins": [margin for _, _, margin in forest.pairs],
            }
        )
    if not table:
        what = "the two calls of every pair are" if isinstance(source, PairRows) else "every labelled call is"
        raise ConfigError(
            f"{stage.name}.forest_tokens = {stage.forest_tokens}: {what} longer\n  fix: raise it"
        )
    if progress is not None and source.left_out.calls:
        progress.note(str(source.left_out))
    return Dataset.from_list(table)


def _collate(tables: list[dict[str, Any]], *, stage: RewardModelStage) -> dict[str, Any]:
    """The tensors of one forest."""
    (table,) = tables
    columns = (table["ids"], table["first"], table["weights"], table["targets"])
    rows = [
        TargetRow(ids=tuple(ids), first=first, weights=tuple(weights), targets=tuple(targets))
        for ids, first, weights, targets in zip(*columns, strict=True)
    ]
    if not isinstance(stage.loss, BradleyTerryLoss):
        return inputs_of(rows)
    pairs = list(zip(table["better"], table["worse"], table["margins"], strict=True))
    return pair_inputs_of(PairForest(rows=rows, pairs=pairs), stage.loss.center)


def inputs_of(rows: Sequence[TargetRow]) -> dict[str, torch.Tensor]:
    """The fields of a ForestBatch, `weights` [L] and `soft_labels` [L]."""
    forest = build_forest(rows)
    labels = list(zip(forest.labels.rows, forest.labels.outputs, strict=True))
    return {
        **_batch_fields(forest),
        "weights": torch.tensor([rows[row].weights[place] for row, place in labels]),
        "soft_labels": torch.tensor([rows[row].targets[place] for row, place in labels]),
    }


def pair_inputs_of(made: PairForest, center: float) -> dict[str, torch.Tensor]:
    """The fields of a ForestBatch; of the pairs [P] `better` and `worse`, places among its labels, `margins`
    and `weights`; and `center` [1].
    """
    forest = build_forest(made.rows)
    label = {row: place for place, row in enumerate(forest.labels.rows)}
    assert len(label) == len(forest.labels.rows), "each row of a pair has one target"
    better, worse, margins = zip(*made.pairs, strict=True)
    return {
        **_batch_fields(forest),
        "better": torch.tensor([label[row] for row in better]),
        "worse": torch.tensor([label[row] for row in worse]),
        "margins": torch.tensor(margins),
        "weights": torch.ones(len(margins)),
        "center": torch.tensor([center]),
    }


def _batch_fields(forest: Forest) -> dict[str, torch.Tensor]:
    batch = collate(forest)
    return {field.name: getattr(batch, field.name) for field in fields(batch)}


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
