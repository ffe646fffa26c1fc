"""Supervised fine-tuning through TRL's SFTTrainer, fed with forests and our own loss. The only file that
imports trl.

The loss is the weighted mean of -log p over sampled tokens of all ranks, computed by the code path the
policy uses (`rl.learner.logprobs`), so demonstrations and rollouts are scored alike.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTConfig, SFTTrainer

from data.errors import ConfigError
from data.forests.collate import ForestBatch, collate
from data.forests.forest import build_forest
from data.forests.rows import Row
from rl.algorithms.losses.matched import match
from rl.config.stages import SftStage
from rl.imitation.demonstrations import RowSource
from rl.imitation.job import PROGRESS, SftRankJob
from rl.imitation.tagged_rows import TaggedRow, as_tagged, candidates, paired, sets_of
from rl.learner.logprobs import forest_logprobs
from rl.learner.model import load_model
from rl.learner.optimizer import OPTIMIZERS, warmup_linear

FINAL_FRACTION = 0.05
"""The learning rate falls linearly to this share of its peak."""
LOGGING_STEPS = 10
"""A log line is a mean over so many steps."""


class ForestTrainer(SFTTrainer):
    """SFTTrainer on one forest a pass, with the weighted loss of this module."""

    bfloat16 = False
    # The loss below is divided by the weight of the whole update, not of one pass.
    loss_is_scaled_for_ga = True

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor:
        """Weight of all labels of an update: its passes, all ranks together."""
        local = torch.stack([inputs["weights"].sum() for inputs in batch_samples]).sum().to(device)
        total: torch.Tensor = self.accelerator.reduce(local, reduction="sum")
        return total

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """One pass's share of the weighted mean; DDP averages gradients, hence the factor `world`."""
        weights = inputs.pop("weights")
        if rows := inputs.pop("rows", None):
            inputs, weights, _ = self._scored_inputs(self._matched(rows))
        logprobs, _ = forest_logprobs(model, ForestBatch(**inputs), bfloat16=self.bfloat16)
        loss = -(weights * logprobs).sum() * (self.accelerator.num_processes / num_items_in_batch)
        return (loss, {}) if return_outputs else loss

    @torch.no_grad()
    def _matched(self, rows: Sequence[TaggedRow]) -> list[TaggedRow]:
        """The rows, their traces exchanged as the model finds cheapest, set by set."""
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
        """-> (a ForestBatch's fields, weights [L], row of each label [L]), where the model is."""
        inputs = {name: value.to(self.accelerator.device) for name, value in _inputs(rows).items()}
        return inputs, inputs.pop("weights"), inputs.pop("of_row")


class _Progress(TrainerCallback):
    """Writes the trainer's log lines for whoever follows."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        # A resumed run has them from its checkpoint: nobody may have polled the last ones in time.
        for logs in state.log_history:
            self._add(logs, logs["step"])

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Any = None,
        **_: Any,
    ) -> None:
        self._add(logs or {}, state.global_step)

    def _add(self, logs: dict[str, float], step: float) -> None:
        if "loss" in logs:
            row = {"step": step, "loss": logs["loss"], "gradient_norm": logs.get("grad_norm", math.nan)}
            line = json.dumps({**row, "learning_rate": logs["learning_rate"]})
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def forests_as_dataset(source: RowSource, stage: SftStage) -> Dataset:
    """Rows of one forest each as a `datasets` table; as many as the training needs, or all there are (then it
    cycles).
    """
    needed = stage.steps * (stage.tokens_per_step // stage.forest_tokens)
    table: list[dict[str, Any]] = []
    for rows in source.forests(stage.forest_tokens):
        table.append(
            {
                "ids": [list(row.ids) for row in rows],
                "weights": [list(row.weights) for row in rows],
                "episodes": [row.episode for row in rows if isinstance(row, TaggedRow)],
            }
        )
        if len(table) == needed:
            break
    if not table:
        raise ConfigError(
            f"{stage.name}.forest_tokens = {stage.forest_tokens}: every call of every episode is longer"
            f"{', or all tags with all traces are' if stage.match_tags else ''}\n  fix: raise it"
        )
    return Dataset.from_list(table)


def train_sft(job: SftRankJob, source: RowSource) -> None:
    """Runs one rank to the end; resumes from the last checkpoint in `output_dir` when there is one."""
    stage = job.stage
    if job.world > 1:
        ranks = {"RANK": job.rank, "LOCAL_RANK": job.rank, "WORLD_SIZE": job.world}
        # The process group exists already; accelerate wants an address all the same.
        host, port = job.master.rsplit(":", 1)
        os.environ.update(
            {name: str(value) for name, value in ranks.items()}, MASTER_ADDR=host, MASTER_PORT=port
        )
    torch.manual_seed(job.seed)
    model = load_model(job.model_dir)
    optimizer = OPTIMIZERS[stage.optimizer](
        model.named_parameters(), lr=stage.learning_rate, weight_decay=stage.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: warmup_linear(s, warmup=stage.warmup_steps, total=stage.steps, final=FINAL_FRACTION),
    )
    arguments = SFTConfig(
        output_dir=str(job.output_dir / "checkpoints"),
        max_steps=stage.steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=stage.tokens_per_step // stage.forest_tokens // job.world,
        max_grad_norm=1.0,
        logging_steps=LOGGING_STEPS,
        save_strategy="steps",
        # A checkpoint between two log lines would make the next line, after a resume, a mean of other steps.
        save_steps=max(50, stage.steps // 5 // LOGGING_STEPS * LOGGING_STEPS),
        save_total_limit=1,
        seed=job.seed,
        data_seed=job.seed,
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        disable_tqdm=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        ddp_backend="gloo" if not torch.cuda.is_available() and job.world > 1 else None,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
    )
    trainer = ForestTrainer(
        model=model,
        args=arguments,
        train_dataset=forests_as_dataset(source, stage),
        data_collator=_collate,
        processing_class=source.codec.tokenizer,
        optimizers=(optimizer, schedule),
        callbacks=[_Progress(job.output_dir / PROGRESS)] if job.rank == 0 else [],
    )
    trainer.bfloat16 = stage.precision == "bfloat16"
    checkpoints = job.output_dir / "checkpoints"
    trainer.train(resume_from_checkpoint=any(checkpoints.glob("checkpoint-*")) or None)
    if job.rank == 0:
        model.save_pretrained(str(job.output_dir / "model"))


def _collate(tables: list[dict[str, Any]]) -> dict[str, Any]:
    """One forest's tensors; of tagged rows the rows, since which forest they make is for the model to say."""
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
    """The fields of a ForestBatch; weights [L], and of_row [L]: which of the rows a label is of."""
    forest = build_forest(rows)
    batch = collate(forest)
    labels = forest.labels
    weights = [rows[row].weights[index] for row, index in zip(labels.rows, labels.outputs, strict=True)]
    return {
        **{field.name: getattr(batch, field.name) for field in fields(batch)},
        "weights": torch.tensor(weights),
        "of_row": torch.tensor(labels.rows),
    }
