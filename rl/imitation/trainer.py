"""Supervised fine-tuning: the weighted mean of -log p over the sampled tokens of all ranks.

Log-probabilities come from the learner's forward pass (`rl.learner.logprobs`), so they are computed as those
of rollouts are.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from safetensors.torch import load_file

from data.forests.collate import ForestBatch, collate
from data.forests.forest import build_forest
from data.forests.rows import Row
from rl.algorithms.losses.matched import match
from rl.config.stages import SftStage
from rl.imitation.demonstrations import RowSource
from rl.imitation.forest_table import forests_as_dataset
from rl.imitation.forest_trainer import ForestTrainer, begin, train
from rl.imitation.job import SupervisedJob
from rl.imitation.tagged_rows import TaggedRow, as_tagged, candidates, paired, sets_of
from rl.learner.logprobs import forest_logprobs
from rl.learner.lora import ADAPTER_FILE, load_adapters
from rl.learner.policy_model import policy_model
from rl.seeds import purpose_seed


class ImitationTrainer(ForestTrainer):
    """The loss of imitation; with tagged rows, of the cheapest pairing of tags and traces."""

    def weighted_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """[] Sum of the weighted -log p."""
        weights = inputs.pop("weights")
        if rows := inputs.pop("rows", None):
            inputs, weights, _ = self._scored_inputs(self._matched(rows))
        logprobs, _ = forest_logprobs(model, ForestBatch(**inputs), bfloat16=self.bfloat16)
        return -(weights * logprobs).sum()

    @torch.no_grad()
    def _matched(self, rows: Sequence[TaggedRow]) -> list[TaggedRow]:
        """The rows with the traces of each set paired with the tags that the model finds cheapest."""
        model = self.accelerator.unwrap_model(self.model)
        found: list[TaggedRow] = []
        for members in sets_of(rows):
            pairs = candidates(members)
            inputs, weights, of_pair = self._scored_inputs(pairs)
            logprobs, _ = forest_logprobs(model, ForestBatch(**inputs), bfloat16=self.bfloat16)
            costs = torch.zeros(len(pairs), device=logprobs.device)
            costs.index_add_(0, of_pair, -weights * logprobs)
            matching = match(costs.view(len(members), len(members)))
            found += [paired(members[tag], members[trace]) for tag, trace in matching]
        return found

    def _scored_inputs(
        self, rows: Sequence[Row]
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
        """-> (fields of a ForestBatch, weights [L], row of each label [L]), on the model's device."""
        inputs = {name: value.to(self.accelerator.device) for name, value in _inputs(rows).items()}
        return inputs, inputs.pop("weights"), inputs.pop("of_row")


def train_sft(job: SupervisedJob, source: RowSource) -> None:
    """Runs one rank to the end, from `job.checkpoint` when there is one. Raises as `forest_trainer.train`."""
    stage = job.stage
    assert isinstance(stage, SftStage)
    progress = begin(job)
    resumed = job.checkpoint if stage.lora is None else None
    model, masters = policy_model(
        resumed or job.model_dir,
        stage,
        vocabulary=source.codec.size,
        seed=purpose_seed(job.seed, f"{stage.name}/lora"),
        device=torch.device("cpu"),
        rounded=stage.weights == "bfloat16",
    )
    if job.checkpoint is not None and stage.lora is not None:
        load_adapters(model, load_file(job.checkpoint / ADAPTER_FILE))
    train(
        job,
        ImitationTrainer,
        model,
        masters,
        dataset=forests_as_dataset(source, stage, progress),
        collate=_collate,
        tokenizer=source.codec.tokenizer,
        progress=progress,
    )


def _collate(tables: list[dict[str, Any]]) -> dict[str, Any]:
    """One forest's tensors. Tagged rows stay rows: the model's matching decides which forest they make."""
    (table,) = tables
    rows = [
        Row(ids=tuple(ids), first=len(ids) - len(weights), weights=tuple(weights))
        for ids, weights in zip(table["ids"], table["weights"], strict=True)
    ]
    if not table["episodes"]:
        inputs = _inputs(rows)
        del inputs["of_row"]
        return inputs
    # Every trace is trained once, whatever its tag: the weight is known.
    return {
        "rows": [as_tagged(row, episode) for row, episode in zip(rows, table["episodes"], strict=True)],
        "weights": torch.tensor([weight for row in rows for weight in row.weights]),
    }


def _inputs(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """The fields of a ForestBatch, `weights` [L], and `of_row` [L]: the row that a label belongs to."""
    forest = build_forest(rows)
    batch = collate(forest)
    labels = forest.labels
    weights = [rows[row].weights[index] for row, index in zip(labels.rows, labels.outputs, strict=True)]
    return {
        **{field.name: getattr(batch, field.name) for field in fields(batch)},
        "weights": torch.tensor(weights),
        "of_row": torch.tensor(labels.rows),
    }
