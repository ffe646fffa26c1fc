"""TRL's SFTTrainer on forests, with checkpoints of our own. The only file that imports trl.

The loss is a weighted mean over the labels of all ranks; the forward pass is the learner's
(`rl.learner.logprobs`, `rl.learner.scorer_model`).
"""

import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTConfig, SFTTrainer

from data.whole_file import write_json
from rl.imitation.job import SupervisedJob
from rl.imitation.progress import PROGRESS, ProgressWriter
from rl.learner.finite import SkippedUpdates, ensure_finite
from rl.learner.lora import ADAPTER_FILE, adapter_tensors, merged_weights
from rl.learner.masters import make_optimizer, with_masters
from rl.learner.optimizer import optimizer_of, warmup_linear
from rl.learner.optimizer_state import load_moments, moments
from rl.learner.snapshot import MODEL_FILE, Snapshot
from rl.storage.checkpoints import checkpoints
from rl.storage.checksums import write_checksums
from rl.storage.files import read_json, storing, whole_directory
from rl.tracking.metrics import json_number

FINAL_FRACTION = 0.05
"""The learning rate falls linearly to this share of its peak."""
KEPT_CHECKPOINTS = 2
"""Number of latest checkpoints kept; the older one is used when the newer is damaged."""


class ForestTrainer(SFTTrainer):
    """SFTTrainer on one forest a pass; what the loss of a label is, a subclass says.

    Its checkpoints are our own (`rl.storage.checkpoints`): nothing pickled, complete or absent.

    step-000050/    model.safetensors, config.json     the weights, adapters merged
                    adapter.safetensors                adapters alone (with LoRA)
                    optimizer.safetensors              moments, as `rl.learner.optimizer_state` names them
                    random.safetensors                 [ranks, bytes] states of torch's generators
                    schedule.json, trainer_state.json  learning rate; steps and log lines so far
                    checksums.json
    """

    bfloat16 = False
    skipped: SkippedUpdates
    # The loss below is divided by the weight of the whole update, not of one pass.
    loss_is_scaled_for_ga = True

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor:
        """[] Sum of the label weights of an update, over its passes and all ranks."""
        local = torch.stack([inputs["weights"].sum() for inputs in batch_samples]).sum().to(device)
        total: torch.Tensor = self.accelerator.reduce(local, reduction="sum")
        return total

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """[] One pass's part of the weighted mean. DDP averages gradients, hence the number of processes."""
        loss = self.weighted_loss(model, inputs) * (self.accelerator.num_processes / num_items_in_batch)
        return (loss, {}) if return_outputs else loss

    def weighted_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """[] Sum over the labels of a pass of weight times loss."""
        raise NotImplementedError

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> float:
        """Norm before clipping. One that is not finite drops the gradients: the update then changes nothing.

        All ranks see the same norm, since the gradients are already those of all ranks.
        """
        norm = float(super()._get_grad_norm(model, grad_norm))
        if not math.isfinite(norm):
            model.zero_grad(set_to_none=True)
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Also counts updates that were skipped. Raises NonFiniteError when too many were, in a row."""
        is_update = "loss" in logs
        finite = not is_update or math.isfinite(logs["grad_norm"])
        if is_update:
            logs["skipped_updates"] = float(not finite)
        # Without NaN, for which trainer_state.json has no number.
        super().log({name: json_number(value) for name, value in logs.items()}, start_time)
        if is_update:
            self.skipped.add(self.state.global_step, finite=finite)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Rank 0 writes; the others wait. Raises StorageError, or NonFiniteError for broken weights."""
        generators = {
            name: self.accelerator.gather(state.unsqueeze(0).to(self.accelerator.device)).cpu()
            for name, state in _generator_states().items()
        }
        if self.is_world_process_zero():
            self._write_checkpoint(Path(self.args.output_dir), generators)
        self.accelerator.wait_for_everyone()

    def _write_checkpoint(self, folder: Path, generators: dict[str, torch.Tensor]) -> None:
        step = self.state.global_step
        with (
            storing(f"{folder}: the checkpoint after update {step}"),
            whole_directory(folder / f"step-{step:06d}") as partial,
        ):
            write_model(self.accelerator.unwrap_model(self.model), self.optimizer, partial)
            save_file(moments(self.optimizer), partial / "optimizer.safetensors")
            save_file(generators, partial / "random.safetensors")
            write_json(partial / "schedule.json", self.lr_scheduler.state_dict())
            self.state.save_to_json(str(partial / "trainer_state.json"))
            write_checksums(partial)
        for old in checkpoints(folder)[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Nothing: the model was loaded from the checkpoint."""

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        folder = Path(checkpoint)
        load_moments(self.optimizer, load_file(folder / "optimizer.safetensors"))
        self.lr_scheduler.load_state_dict(read_json(folder / "schedule.json"))
        rates = self.lr_scheduler.get_last_lr()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        saved = load_file(Path(checkpoint) / "random.safetensors")
        rank = self.args.process_index
        # With more ranks than before, a new rank has the state of the last one.
        # Cloned: set_rng_state crashes on a view into a mapped file that is not aligned.
        states = {name: ranks[min(rank, len(ranks) - 1)].clone() for name, ranks in saved.items()}
        torch.set_rng_state(states["cpu"])
        if "cuda" in states and torch.cuda.is_available():
            torch.cuda.set_rng_state(states["cuda"])


def _generator_states() -> dict[str, torch.Tensor]:
    """[bytes] the states of this process's random generators."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def write_model(model: Any, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Weights (masters) and config into an existing folder: adapters merged, and beside them as they are.
    Raises NonFiniteError when a weight is not finite.
    """
    ensure_finite(model.state_dict(), f"{folder}: weights after supervised training")
    adapters = adapter_tensors(model)
    weights = with_masters(merged_weights(model), optimizer)
    tensors = {MODEL_FILE: weights} | ({ADAPTER_FILE: adapters} if adapters else {})
    Snapshot.of(model, tensors).write(folder)


class _Progress(TrainerCallback):
    """Writes the trainer's log lines, and which pass it is at, to the progress file."""

    def __init__(self, progress: ProgressWriter) -> None:
        self._progress = progress
        self._passes = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        # The controller may not have read the last lines before the checkpoint: it gets all of them again.
        for logs in state.log_history:
            self._add(logs, logs["step"])

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._passes = 0
        self._progress.doing(f"update {state.global_step + 1}", 0, args.gradient_accumulation_steps)

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._passes += 1
        total = args.gradient_accumulation_steps
        self._progress.doing(f"update {state.global_step + 1}", self._passes, total)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Any = None,
        **_: Any,
    ) -> None:
        self._add(logs or {}, state.global_step)

    def _add(self, logs: dict[str, Any], step: float) -> None:
        if "loss" in logs:
            names = {"loss": "loss", "grad_norm": "gradient_norm"}
            kept = ("loss", "grad_norm", "learning_rate", "skipped_updates")
            self._progress.step(int(step), {names.get(name, name): logs[name] for name in kept})


def begin(job: SupervisedJob) -> ProgressWriter | None:
    """Joins the other ranks and seeds torch. -> the progress file, on rank 0."""
    _join_ranks(job)
    progress = ProgressWriter(job.output_dir / PROGRESS) if job.rank == 0 else None
    if progress is not None:
        progress.doing("loading the model")
    torch.manual_seed(job.seed)
    return progress


def train(
    job: SupervisedJob,
    kind: type[ForestTrainer],
    model: Any,
    masters: dict[str, torch.Tensor],
    *,
    dataset: Any,
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    tokenizer: Any,
    progress: ProgressWriter | None,
    callbacks: Sequence[TrainerCallback] = (),
) -> None:
    """Trains to the stage's last step, from `job.checkpoint` when there is one; rank 0 writes the weights.

    Raises:
        NonFiniteError: weights, or too many losses and gradients in a row, are not finite.
        StorageError: a checkpoint or the final weights cannot be written.
    """
    stage = job.stage
    ensure_finite(
        model.state_dict(),
        f"{job.checkpoint or job.model_dir}: weights that supervised training begins with",
        remedy="begin with other weights: model.path, or the stage before this one",
    )
    optimizer = make_optimizer(
        optimizer_of(stage), model, masters, lr=stage.learning_rate, weight_decay=stage.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: warmup_linear(s, warmup=stage.warmup_steps, total=stage.steps, final=FINAL_FRACTION),
    )
    trainer = kind(
        model=model,
        args=_arguments(job),
        train_dataset=dataset,
        data_collator=collate,
        processing_class=tokenizer,
        optimizers=(optimizer, schedule),
        callbacks=[*callbacks, *([_Progress(progress)] if progress is not None else [])],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.bfloat16 = stage.bfloat16
    trainer.skipped = SkippedUpdates(f"stage {stage.name}")
    trainer.train(resume_from_checkpoint=str(job.checkpoint) if job.checkpoint else None)
    trainer.skipped.ensure_some_applied(stage.steps)
    if job.rank == 0:
        final = job.output_dir / "model"
        with storing(f"{final}: the final weights"), whole_directory(final) as partial:
            write_model(model, optimizer, partial)


def _join_ranks(job: SupervisedJob) -> None:
    """Environment from which torch.distributed finds the other ranks."""
    if job.world > 1:
        # The process group exists already, but accelerate requires an address.
        host, port = job.master.rsplit(":", 1)
        ranks = {"RANK": job.rank, "LOCAL_RANK": job.rank, "WORLD_SIZE": job.world}
        os.environ.update(
            {name: str(value) for name, value in ranks.items()}, MASTER_ADDR=host, MASTER_PORT=port
        )


def _arguments(job: SupervisedJob) -> SFTConfig:
    stage = job.stage
    return SFTConfig(
        output_dir=str(job.output_dir / "checkpoints"),
        max_steps=stage.steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=stage.tokens_per_step // stage.forest_tokens // job.world,
        max_grad_norm=1.0,
        logging_steps=1,
        # Else a loss that is not a number is replaced by the mean of those before it.
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=max(50, stage.steps // 5),
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
