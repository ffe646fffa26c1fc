"""One optimizer step on groups of scored episodes. No Ray, and no I/O but load and save.

Per step: rewards -> advantages of calls -> one row per call -> packed bins -> clipped loss -> AdamW.
Minibatches split the groups in order; each is one update. (The forest takes the place of rows here.)
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from data.collate import PackedBatch, collate
from data.rows import Row, call_row, pack_rows
from rl.advantages.credit import call_advantages
from rl.batch import ScoredGroup
from rl.learner_settings import LearnerSettings
from rl.logprobs import token_logprobs
from rl.losses.aggregation import call_weights
from rl.losses.clipped import clipped_loss
from rl.losses.kl import k3
from rl.model import load_model, publishable_weights
from rl.optimizer import OPTIMIZERS, warmup_linear

TOKENS_PER_FORWARD = {"cpu": 2048, "cuda": 32768}
"""Packed tokens of one forward and backward pass. On CPU a pass that outgrows the cache is slower: with 8192
tokens it took 1.7 times as long per token as with 2048."""


class Learner:
    """Holds policy and optimizer of one RL stage."""

    def __init__(self, model_dir: Path, settings: LearnerSettings) -> None:
        """`model_dir`: Hugging Face directory with the stage's initial weights."""
        self._settings = settings
        stage = settings.stage
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = load_model(model_dir).to(self.device)
        self.model.train()
        self.optimizer = OPTIMIZERS[stage.optimizer](
            self.model.named_parameters(), lr=stage.learning_rate, weight_decay=stage.weight_decay
        )
        self.reference = load_model(model_dir).to(self.device).eval() if stage.algorithm.kl_coef > 0 else None
        self.updates = 0

    def step(self, step: int, groups: Sequence[ScoredGroup]) -> dict[str, float]:
        """Train on one batch. -> metrics, means over what they name."""
        stage = self._settings.stage
        factor = warmup_linear(
            step, warmup=stage.warmup_steps, total=stage.steps, final=stage.final_learning_rate_fraction
        )
        for group in self.optimizer.param_groups:
            group["lr"] = stage.learning_rate * factor
        size = math.ceil(len(groups) / stage.minibatches)
        totals: dict[str, float] = {}
        before, parts = self.updates, 0
        for start in range(0, len(groups), size):
            metrics = self._update(groups[start : start + size])
            parts += metrics is not None
            for name, value in (metrics or {}).items():
                totals[name] = (
                    max(totals.get(name, 0.0), value)
                    if name.startswith("max_")
                    else totals.get(name, 0.0) + value
                )
        mean = {name: value if name.startswith("max_") else value / parts for name, value in totals.items()}
        made = float(self.updates - before)
        return {**mean, "learning_rate": stage.learning_rate * factor, "updates": made}

    def _update(self, groups: Sequence[ScoredGroup]) -> dict[str, float] | None:
        """One optimizer update; None when nothing carries signal."""
        rows = self._rows(groups)
        if not rows:
            return None
        stage = self._settings.stage
        bins = pack_rows(rows, stage.row_length)
        per_pass = max(1, TOKENS_PER_FORWARD[self.device.type] // stage.row_length)
        sums: dict[str, float] = defaultdict(float)
        computed = 0
        for start in range(0, len(bins), per_pass):
            batch = collate(bins[start : start + per_pass], pad=self._settings.pad).to(self.device)
            computed += batch.ids.numel()
            self._accumulate(batch, sums)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), stage.max_grad_norm)
        # A non-finite gradient would spoil the weights for good; the update is left out, and counted.
        finite = bool(torch.isfinite(norm))
        if finite:
            self.optimizer.step()
            self.updates += 1
        self.optimizer.zero_grad(set_to_none=True)
        tokens, row_tokens = sums.pop("tokens"), float(sum(map(len, rows)))
        return {
            "loss": sums.pop("loss"),
            "max_ratio": sums.pop("max_ratio"),
            **{name: total / tokens for name, total in sums.items()},
            "gradient_norm": float(norm) if finite else 0.0,
            "skipped_updates": float(not finite),
            "trained_tokens": tokens,
            "row_tokens": row_tokens,
            "padding_share": 1.0 - row_tokens / computed,
        }

    def _accumulate(self, batch: PackedBatch, sums: dict[str, float]) -> None:
        """Forward and backward of one packed batch: adds to the gradients and to `sums`."""
        stage, algorithm = self._settings.stage, self._settings.stage.algorithm
        logprobs, entropy = token_logprobs(
            self.model, batch, temperature=stage.temperature, bfloat16=stage.precision == "bfloat16"
        )
        mask = batch.weights > 0
        weights, count = batch.weights[mask], int(mask.sum())
        result = clipped_loss(
            logprobs[mask],
            batch.logprobs[mask],
            batch.advantages[mask],
            weights,
            clip_low=algorithm.clip_low,
            clip_high=algorithm.clip_high,
        )
        loss = result.loss
        if self.reference is not None:
            with torch.no_grad():
                reference, _ = token_logprobs(self.reference, batch, temperature=stage.temperature)
            penalty = k3(logprobs[mask], reference[mask])
            loss = loss + algorithm.kl_coef * (weights * penalty).sum()
            sums["reference_kl"] += float(penalty.detach().sum())
        loss.backward()
        sums["loss"] += float(loss.detach())
        sums["clipped_share"] += float(result.clipped_share) * count
        sums["policy_kl"] += float(result.approximate_kl) * count
        sums["entropy"] += float(entropy[mask].sum())
        sums["tokens"] += count
        sums["max_ratio"] = max(sums["max_ratio"], float(result.max_ratio))

    def _rows(self, groups: Sequence[ScoredGroup]) -> list[Row]:
        """Rows of all calls with signal; denominators count every episode, signal or not."""
        algorithm = self._settings.stage.algorithm
        episodes = [episode for group in groups for episode in group.episodes]
        advantages = [
            per_call
            for group in groups
            for per_call in call_advantages(
                group.episodes, group.rewards, scale=algorithm.scale, credit=algorithm.credit
            )
        ]
        trained = [[call.trained for call in episode.calls] for episode in episodes]
        weights = call_weights(trained, algorithm.aggregation, max_tokens=self._settings.max_tokens)
        rows: list[Row] = []
        for episode, per_call, shares in zip(episodes, advantages, weights, strict=True):
            for call, advantage, weight in zip(episode.calls, per_call, shares, strict=True):
                if call.trained and (advantage != 0.0 or self.reference is not None):
                    rows.append(call_row(episode, call, weight=weight, advantage=advantage))
        return rows

    @torch.no_grad()
    def logprobs(self, context: Sequence[int], output: Sequence[int]) -> list[float]:
        """[T] log-probabilities of `output` after `context` under the current weights: the canary's other
        half.
        """
        row = Row(ids=(*context, *output), first=len(context), weights=(1.0,) * len(output), logprobs=())
        batch = collate([[row]], pad=self._settings.pad).to(self.device)
        values, _ = token_logprobs(self.model, batch, temperature=self._settings.stage.temperature)
        return [float(value) for value in values[0, len(context) :]]

    def weights(self) -> dict[str, torch.Tensor]:
        """Current weights by checkpoint name."""
        return publishable_weights(self.model)

    def save(self, directory: Path) -> None:
        """Model as a Hugging Face directory, optimizer as safetensors beside it. The caller makes it
        atomic.
        """
        self.model.save_pretrained(str(directory))
        state: dict[str, Any] = self.optimizer.state_dict()["state"]
        tensors = {
            f"{index}.{name}": value.contiguous()
            for index, entry in state.items()
            for name, value in entry.items()
        }
        tensors["updates"] = torch.tensor(self.updates)
        save_file(tensors, str(directory / "optimizer.safetensors"))

    def load(self, directory: Path) -> None:
        """Inverse of `save`, bit for bit."""
        self.model.load_state_dict(load_model(directory).state_dict())
        tensors = load_file(str(directory / "optimizer.safetensors"))
        self.updates = int(tensors.pop("updates"))
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        full = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": state, "param_groups": full["param_groups"]})
