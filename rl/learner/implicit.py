"""PRIME's implicit reward model in the learner: it scores a batch, then learns the batch's outcomes.

One frozen copy of the weights that the stage begins with, and adapters beside it:

    pi_ref      the copy alone                     (`rl.learner.lora.plain_layers`)
    pi          the copy with the adapters         trained on outcomes; at first the same as pi_ref

A model of its own would take 16 bytes a weight for weights, gradients and moments, beside the reference; the
adapters take 16 bytes for each of their numbers, which are about a hundredth. Both read the recorded ids of
the policy's rows, in forests built the same way, at temperature 1. As in the paper's algorithm a batch is
scored first and learned from then, once: no episode is judged by a model that has seen its outcome.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash

from data.forests.collate import ForestBatch, collate
from data.forests.forest import Forest, build_forest
from data.forests.split import CostModel, deal
from rl.algorithms.advantages.log_ratio import log_ratio_rewards
from rl.algorithms.losses.implicit_outcome import implicit_outcome_loss
from rl.evaluation.auc import auc
from rl.learner.call_rows import CallRows
from rl.learner.collectives import Ranks, gradients_of
from rl.learner.logprobs import forest_logprobs
from rl.learner.lora import adapter_tensors, add_adapters, load_adapters, plain_layers
from rl.learner.masters import round_weights
from rl.learner.model import load_model
from rl.learner.optimizer import adamw, step_if_finite
from rl.learner.optimizer_state import load_moments, moments
from rl.learner.settings import LearnerSettings
from rl.learner.training_rows import PerToken
from rl.scored_group import ScoredGroup
from rl.storage.implicit_version import CHECKSUM_BITS, ImplicitVersion

IMPLICIT_FILE = "implicit.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImplicitScores:
    """What the implicit reward model says of a batch, and how it fared with it."""

    rewards: PerToken
    """Reward of every trained token; 0 in calls of roles that are not trained."""
    metrics: dict[str, float]


class ImplicitLearner:
    """Implicit reward model, reference and optimizer; the same on every rank, never sharded."""

    def __init__(
        self, model_dir: Path, settings: LearnerSettings, device: torch.device, ranks: Ranks
    ) -> None:
        """`model_dir`: the weights that the stage begins with."""
        stage = settings.stage
        assert stage.algorithm.implicit is not None
        self._stage, self._config = stage, stage.algorithm.implicit
        self._device, self._ranks = device, ranks
        self.model: Any = load_model(model_dir, settings.vocabulary).to(device)
        if stage.weights == "bfloat16":
            round_weights(self.model)
        add_adapters(self.model, self._config.lora, seed=settings.seed)
        self.model.train()
        if stage.activation_checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.optimizer = adamw(self.model.named_parameters(), lr=self._config.learning_rate, weight_decay=0.0)
        self.updates = 0
        """Updates made so far: the version of the weights."""

    def step(self, groups: Sequence[ScoredGroup]) -> ImplicitScores:
        """Score a batch, then learn its outcomes; an answer that could not be checked is only scored."""
        calls = CallRows.of(groups, self._stage.forest_tokens, self._stage.algorithm.roles)
        forests = [build_forest(part) for part in calls.members]
        owners = [
            [calls.episodes[id(part[row])] for row in forest.labels.rows]
            for part, forest in zip(calls.members, forests, strict=True)
        ]
        version = ImplicitVersion(version=self.updates, checksum=self._checksum())
        rewards = calls.nested(self._rewards(forests))
        tokens = [
            [value for call in episode for value in call] for of_group in rewards for episode in of_group
        ]
        sums = [math.fsum(values) for values in tokens]
        outcomes = [score.correct for group in groups for score in group.scores]
        every = [value for values in tokens for value in values]
        return ImplicitScores(
            rewards=rewards,
            metrics={
                **version.metrics(),
                **prediction_metrics(groups, sums),
                "implicit/reward": math.fsum(every) / len(every) if every else 0.0,
                **self._learn(forests, owners, sums, outcomes),
            },
        )

    @torch.no_grad()
    def _rewards(self, forests: Sequence[Forest]) -> list[tuple[Forest, torch.Tensor]]:
        """The reward of each label of each forest; every rank has all of them."""
        values = [torch.zeros(len(forest.labels.nodes), device=self._device) for forest in forests]
        for index in self._dealt(forests):
            batch = collate(forests[index]).to(self._device)
            own = self._logprobs(batch)
            with plain_layers(self.model):
                reference = self._logprobs(batch)
            beta = self._config.beta
            values[index] += values[index].new_tensor(
                log_ratio_rewards(own.tolist(), reference.tolist(), beta=beta)
            )
        self._ranks.all_reduce_sum(values)
        return list(zip(forests, values, strict=True))

    def _learn(
        self,
        forests: Sequence[Forest],
        owners: Sequence[Sequence[int]],
        sums: Sequence[float],
        outcomes: Sequence[bool | None],
    ) -> dict[str, float]:
        """One update by the outcomes that are known. -> metrics.

        An episode's tokens lie in several forests, so the loss is differentiated by the episodes' sums first,
        and each forest then by its tokens, with the same weights: together the gradient of the loss.
        """
        known = [index for index, outcome in enumerate(outcomes) if outcome is not None]
        if not known or not forests:
            return {"implicit/loss": 0.0, "implicit/skipped_updates": 0.0}
        logits = torch.tensor([sums[index] for index in known], dtype=torch.float64, requires_grad=True)
        right = torch.tensor([float(outcomes[index] or False) for index in known], dtype=torch.float64)
        loss = implicit_outcome_loss(logits, right)
        (slopes,) = torch.autograd.grad(loss, logits)
        slope = dict(zip(known, slopes.tolist(), strict=True))
        for index in self._dealt(forests):
            factors = [self._config.beta * slope.get(owner, 0.0) for owner in owners[index]]
            if any(factors):
                logprobs = self._logprobs(collate(forests[index]).to(self._device))
                (logprobs.new_tensor(factors) * logprobs).sum().backward()
        if self._ranks.world > 1:
            self._ranks.all_reduce_sum(gradients_of(self.model))
        made = step_if_finite(self.model, self.optimizer, self._config.max_grad_norm)
        self.updates += made
        return {"implicit/loss": float(loss.detach()), "implicit/skipped_updates": float(not made)}

    def _logprobs(self, batch: ForestBatch) -> torch.Tensor:
        """[L] at temperature 1: those of the models, not of the sampler."""
        found, _ = forest_logprobs(self.model, batch, bfloat16=self._stage.bfloat16)
        return found

    def _dealt(self, forests: Sequence[Forest]) -> list[int]:
        """Indices of the forests that this rank computes."""
        cost = CostModel(**self._stage.cost.model_dump())
        return deal([cost.seconds(forest) for forest in forests], self._ranks.world)[self._ranks.rank]

    def _checksum(self) -> int:
        """Checksum of the adapters, of CHECKSUM_BITS bits."""
        digest = xxhash.xxh3_64()
        for name, tensor in sorted(adapter_tensors(self.model).items()):
            digest.update(name.encode())
            digest.update(tensor.numpy().tobytes())
        return int(digest.intdigest() >> (64 - CHECKSUM_BITS))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Adapters, moments and number of updates: what a checkpoint keeps."""
        adapters = {f"adapter.{name}": value for name, value in adapter_tensors(self.model).items()}
        kept = {f"moment.{name}": value for name, value in moments(self.optimizer).items()}
        return adapters | kept | {"updates": torch.tensor(self.updates)}

    def load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Inverse of `tensors`, bit for bit."""
        kinds: dict[str, dict[str, torch.Tensor]] = {"adapter": {}, "moment": {}, "updates": {}}
        for key, value in tensors.items():
            kind, _, name = key.partition(".")
            kinds[kind][name] = value
        load_adapters(self.model, kinds["adapter"])
        load_moments(self.optimizer, kinds["moment"])
        self.updates = int(kinds["updates"][""])


def prediction_metrics(groups: Sequence[ScoredGroup], sums: Sequence[float]) -> dict[str, float]:
    """How well the episodes' sums of token rewards, in the order of `groups`, tell right from wrong:
    `accuracy` is the share of episodes on the right side of 0 (a sum of 0 says neither, and counts half), and
    `in_group` the share of pairs of a right and a wrong episode of one problem in the right order. What it
    says within groups is what trains the policy; at 1/2 it teaches nothing.
    """
    said = iter(sums)
    hits: list[float] = []
    won = total = 0.0
    for group in groups:
        mine = [(next(said), score.correct) for score in group.scores]
        known = [(value, float(correct)) for value, correct in mine if correct is not None]
        hits += [0.5 if value == 0 else float((value > 0) == bool(right)) for value, right in known]
        right = sum(correct for _, correct in known)
        area = auc([value for value, _ in known], [correct for _, correct in known])
        if area is not None:
            count = right * (len(known) - right)
            won, total = won + count * area, total + count
    found = {"implicit/accuracy": sum(hits) / len(hits)} if hits else {}
    return found | ({"implicit/in_group": won / total} if total else {})
