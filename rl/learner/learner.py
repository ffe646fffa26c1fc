"""One optimizer step on groups of scored episodes. No Ray, and no I/O but load and save.

Per step: rewards -> advantages -> one row per call -> forests -> policy loss -> optimizer. Minibatches split
the groups in order; each is one update. Denominators count every episode of an update, so the way its rows
are cut into forests, and the ranks that compute them, change nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from data.forests.collate import ForestBatch, collate
from data.forests.forest import Forest, build_forest
from data.forests.rows import Row, call_row
from data.forests.split import CostModel, deal, split_rows
from rl.algorithms.corrections.levels import at_level
from rl.learner.collectives import Ranks, gradients_of
from rl.learner.critic import CRITIC_FILE, CriticLearner, explained_variance
from rl.learner.logprobs import forest_logprobs
from rl.learner.lora import ADAPTER_FILE, add_adapters, load_adapters, merged_weights, save_adapted
from rl.learner.model import load_model, publishable_weights
from rl.learner.objective import (
    correction_weights,
    needs_current_logprobs,
    policy_objective,
    proximal_logprobs,
)
from rl.learner.optimizer import OPTIMIZERS, warmup_linear
from rl.learner.optimizer_state import load_moments, moments
from rl.learner.policy_rows import LabelTensors, label_tensors
from rl.learner.settings import LearnerSettings
from rl.learner.sharding import shard, spread_like, whole
from rl.learner.training_rows import PerToken, TokenCredit, critic_credit, group_credit, make_rows
from rl.scored_group import ScoredGroup


def flat(nested: PerToken) -> list[float]:
    """All tokens in a row."""
    return [value for group in nested for episode in group for call in episode for value in call]


SUMS = ("loss", "labels", "clipped_share", "policy_kl", "entropy", "reference_kl", "correction", "value_loss")


@dataclass(kw_only=True, slots=True)
class ForestPart:
    """One forest of an update."""

    forest: Forest
    batch: ForestBatch
    label_tensors: LabelTensors
    label_slice: slice
    """Of its labels among those of all parts."""
    recomputed: torch.Tensor | None = None
    """[L] log-probabilities when the step began, where the algorithm asks for them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceTerms:
    """[L] of all parts of an update together: what concerns whole sequences."""

    sequence_ratio: torch.Tensor | None
    corrections: torch.Tensor


class Learner:
    """Holds policy and optimizer of one RL stage."""

    def __init__(self, model_dir: Path, settings: LearnerSettings, ranks: Ranks | None = None) -> None:
        """`model_dir`: Hugging Face directory with the stage's initial weights. `ranks` have met."""
        self._settings = settings
        self._ranks = ranks or Ranks()
        stage = settings.stage
        self._sharded = stage.sharding == "fsdp" and self._ranks.world > 1
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = load_model(model_dir).to(self.device)
        if stage.lora is not None:
            add_adapters(self.model, stage.lora, seed=settings.seed)
        self.model.train()
        if stage.activation_checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.reference = load_model(model_dir).to(self.device).eval() if stage.algorithm.kl_coef > 0 else None
        for model in (self.model, self.reference):
            if model is not None and self._sharded:
                shard(model, model.get_decoder().layers, self._ranks, self.device)
        self.optimizer = OPTIMIZERS[stage.optimizer](
            self.model.named_parameters(), lr=stage.learning_rate, weight_decay=stage.weight_decay
        )
        self.critic = None
        if stage.algorithm.critic is not None:
            self.critic = CriticLearner(
                model_dir,
                stage.algorithm.critic,
                self.device,
                bfloat16=stage.precision == "bfloat16",
                ranks=self._ranks if self._sharded else None,
            )
        self.updates = 0

    def step(self, step: int, groups: Sequence[ScoredGroup]) -> dict[str, float]:
        """Train on one batch. -> metrics, means over what they name."""
        stage = self._settings.stage
        factor = warmup_linear(
            step, warmup=stage.warmup_steps, total=stage.steps, final=stage.final_learning_rate_fraction
        )
        for group in self.optimizer.param_groups:
            group["lr"] = stage.learning_rate * factor
        credit = self._credit(groups)
        rows = make_rows(
            groups,
            stage.algorithm,
            credit,
            minibatches=stage.minibatches,
            max_tokens=self._settings.max_tokens,
        )
        updates = [self._parts(minibatch) for minibatch in rows]
        if stage.algorithm.proximal == "recomputed":
            for parts in updates:
                for part, values in zip(parts, self._score(parts), strict=True):
                    part.recomputed = values
        totals: dict[str, float] = {}
        before, counted = self.updates, 0
        for parts in updates:
            if not parts:
                continue
            counted += 1
            for name, value in self._update(step, parts).items():
                last = totals.get(name, 0.0)
                totals[name] = max(last, value) if name.startswith("max_") else last + value
        mean = {name: value if name.startswith("max_") else value / counted for name, value in totals.items()}
        if credit.values is not None and credit.returns is not None:
            mean["explained_variance"] = explained_variance(flat(credit.values), flat(credit.returns))
        made = float(self.updates - before)
        return {**mean, "learning_rate": stage.learning_rate * factor, "updates": made}

    def _credit(self, groups: Sequence[ScoredGroup]) -> TokenCredit:
        """From the rewards, and from the critic where there is one."""
        algorithm = self._settings.stage.algorithm
        if self.critic is None or algorithm.critic is None:
            return group_credit(groups, algorithm)
        calls = [call_row(e, call) for group in groups for e in group.episodes for call in e.calls]
        members = split_rows([row for row in calls if any(row.weights)], self._settings.stage.forest_tokens)
        found: dict[int, dict[int, float]] = {id(row): {} for row in calls}
        for part, (forest, values) in zip(members, self._values(members), strict=True):
            places = zip(forest.labels.rows, forest.labels.outputs, values.tolist(), strict=True)
            for row, place, value in places:
                found[id(part[row])][place] = value
        said = iter([values[place] for place in sorted(values)] for values in found.values())
        nested = [[[next(said) for _ in e.calls] for e in group.episodes] for group in groups]
        return critic_credit(groups, algorithm.critic, nested)

    @torch.no_grad()
    def _values(self, members: Sequence[Sequence[Row]]) -> list[tuple[Forest, torch.Tensor]]:
        """Each part's forest and what the critic says at its labels."""
        assert self.critic is not None
        forests = [build_forest(part) for part in members]
        values = [torch.zeros(len(forest.labels.nodes), device=self.device) for forest in forests]
        for turn in self._turns(forests):
            found = self.critic(collate(forests[turn or 0]).to(self.device))
            if turn is not None:
                values[turn] = found
        self._ranks.all_reduce_sum(values)
        return list(zip(forests, values, strict=True))

    def _turns(self, forests: Sequence[Forest]) -> list[int | None]:
        """Which of the forests this rank computes, in turn. Sharded ranks have to make as many passes as each
        other: None is one for the others' sake.
        """
        cost = CostModel(**self._settings.stage.cost.model_dump())
        dealt = deal([cost.seconds(forest) for forest in forests], self._ranks.world)
        mine = dealt[self._ranks.rank]
        idle = max(map(len, dealt)) - len(mine) if self._sharded else 0
        return [*mine, *[None] * idle]

    def _parts(self, rows: Sequence[Any]) -> list[ForestPart]:
        """The forests of an update; [] when nothing carries signal."""
        parts, start = [], 0
        for members in split_rows(rows, self._settings.stage.forest_tokens):
            forest = build_forest(members)
            stop = start + len(forest.labels.nodes)
            parts.append(
                ForestPart(
                    forest=forest,
                    batch=collate(forest).to(self.device),
                    label_tensors=label_tensors(members, forest).to(self.device),
                    label_slice=slice(start, stop),
                )
            )
            start = stop
        return parts

    def _update(self, step: int, parts: list[ForestPart]) -> dict[str, float]:
        """One optimizer update."""
        stage = self._settings.stage
        sums = dict.fromkeys(SUMS, 0.0)
        sequence_terms, largest = self._sequence_terms(step, parts), 0.0
        for turn in self._turns([part.forest for part in parts]):
            if turn is None:
                self._idle(parts[0])
            else:
                largest = max(largest, self._accumulate(step, parts[turn], sequence_terms, sums))
        self._share(sums)
        if self.critic is not None:
            self.critic.step(stage.max_grad_norm)
        norm = whole(torch.nn.utils.clip_grad_norm_(self.model.parameters(), stage.max_grad_norm))
        # A non-finite gradient would spoil the weights for good; the update is left out, and counted.
        finite = bool(torch.isfinite(norm))
        critic = stage.algorithm.critic
        if finite and not (critic is not None and step < critic.warmup_steps):
            self.optimizer.step()
            self.updates += 1
        self.optimizer.zero_grad(set_to_none=True)
        labels = sums.pop("labels")
        row_tokens = sum(part.forest.row_tokens for part in parts)
        tokens = sum(len(part.forest) for part in parts)
        return {
            "loss": sums.pop("loss"),
            "value_loss": sums.pop("value_loss"),
            "max_ratio": self._ranks.all_reduce_max(largest),
            **{name: total / labels for name, total in sums.items()},
            "gradient_norm": float(norm) if finite else 0.0,
            "skipped_updates": float(not finite),
            "trained_tokens": labels,
            "row_tokens": float(row_tokens),
            "forest_tokens": float(tokens),
            "token_ratio": row_tokens / tokens,
        }

    def _share(self, sums: dict[str, float]) -> None:
        """Gradients and sums become those of all ranks; sharded gradients are already."""
        if self._ranks.world == 1:
            return
        gradients = []
        if not self._sharded:
            gradients = gradients_of(self.model)
            gradients += gradients_of(self.critic) if self.critic is not None else []
        totals = torch.tensor([sums[name] for name in SUMS], dtype=torch.float64)
        self._ranks.all_reduce_sum([*gradients, totals])
        sums.update(zip(SUMS, totals.tolist(), strict=True))

    @property
    def _factor(self) -> int:
        """Sharded gradients are means over ranks, and the update's is their sum."""
        return self._ranks.world if self._sharded else 1

    def _idle(self, part: ForestPart) -> None:
        """A pass that adds nothing."""
        if self.reference is not None:
            with torch.no_grad():
                self._logprobs(self.reference, part.batch)
        (0.0 * self._logprobs(self.model, part.batch)[0].sum()).backward()
        if self.critic is not None:
            (0.0 * self.critic(part.batch).sum()).backward()

    def _accumulate(
        self, step: int, part: ForestPart, sequence_terms: SequenceTerms, sums: dict[str, float]
    ) -> float:
        """Forward and backward of one forest: adds to the gradients and to `sums`. -> largest ratio."""
        algorithm = self._settings.stage.algorithm
        reference = None
        if self.reference is not None:
            with torch.no_grad():
                reference, _ = self._logprobs(self.reference, part.batch)
        logprobs, entropy = self._logprobs(self.model, part.batch)
        result = policy_objective(
            algorithm,
            part.label_tensors,
            logprobs,
            proximal=proximal_logprobs(
                algorithm,
                part.label_tensors,
                current=logprobs.detach(),
                recomputed=part.recomputed,
                step=step,
            ),
            sequence_ratio=None
            if sequence_terms.sequence_ratio is None
            else sequence_terms.sequence_ratio[part.label_slice],
            corrections=sequence_terms.corrections[part.label_slice],
            reference=reference,
        )
        (self._factor * result.loss).backward()
        if self.critic is not None:
            sums["value_loss"] += self.critic.accumulate(part.batch, part.label_tensors, factor=self._factor)
        sums["loss"] += float(result.loss.detach())
        sums["labels"] += len(logprobs)
        sums["clipped_share"] += float(result.clipped)
        sums["policy_kl"] += float(result.divergence)
        sums["entropy"] += float(entropy.sum())
        sums["reference_kl"] += float(result.reference_kl)
        sums["correction"] += float(result.corrected)
        return float(result.max_ratio)

    def _logprobs(self, model: Any, batch: ForestBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """As the engine would score these tokens under the given weights, in the recipe's precision."""
        stage = self._settings.stage
        return forest_logprobs(
            model, batch, temperature=stage.temperature, bfloat16=stage.precision == "bfloat16"
        )

    @torch.no_grad()
    def _score(self, parts: Sequence[ForestPart]) -> list[torch.Tensor]:
        """[L] of every part under the current weights, whichever rank computed it."""
        found = [torch.zeros_like(part.label_tensors.weights) for part in parts]
        for turn in self._turns([part.forest for part in parts]):
            scored, _ = self._logprobs(self.model, parts[turn or 0].batch)
            if turn is not None:
                found[turn] = scored
        self._ranks.all_reduce_sum(found)
        return found

    def _sequence_terms(self, step: int, parts: Sequence[ForestPart]) -> SequenceTerms:
        """What whole sequences need, before any of their tokens is trained."""
        algorithm = self._settings.stage.algorithm
        count = sum(len(part.label_tensors.weights) for part in parts)
        if not needs_current_logprobs(algorithm) and not algorithm.corrections:
            return SequenceTerms(sequence_ratio=None, corrections=torch.ones(count, device=self.device))

        def together(name: str) -> torch.Tensor:
            return torch.cat([getattr(part.label_tensors, name) for part in parts])

        scores = (
            self._score(parts)
            if needs_current_logprobs(algorithm)
            else [part.label_tensors.behaviour for part in parts]
        )
        current, sequences = torch.cat(scores), together("sequences")
        proximal = torch.cat(
            [
                proximal_logprobs(
                    algorithm, part.label_tensors, current=score, recomputed=part.recomputed, step=step
                )
                for part, score in zip(parts, scores, strict=True)
            ]
        )
        return SequenceTerms(
            sequence_ratio=at_level(current - proximal, sequences, "sequence_mean"),
            corrections=correction_weights(
                algorithm.corrections,
                proximal=proximal,
                current=current,
                behaviour=together("behaviour"),
                advantages=together("advantages"),
                sequences=sequences,
            ),
        )

    @torch.no_grad()
    def logprobs(self, context: Sequence[int], output: Sequence[int]) -> list[float]:
        """[T] log-probabilities of `output` after `context` under the current weights, at temperature 1: the
        canary's other half.
        """
        row = Row(ids=(*context, *output), first=len(context), weights=(1.0,) * len(output))
        batch = collate(build_forest([row])).to(self.device)
        values, _ = forest_logprobs(self.model, batch)
        return [float(value) for value in values]

    def weights(self) -> dict[str, torch.Tensor]:
        """Current weights by checkpoint name."""
        lora = self._settings.stage.lora
        return publishable_weights(self.model) if lora is None else merged_weights(self.model)

    def save(self, directory: Path) -> None:
        """Model as a Hugging Face directory, optimizer as safetensors beside it. The caller makes it
        atomic.
        """
        tensors = {**moments(self.optimizer), "updates": torch.tensor(self.updates)}
        weights = self.weights()
        critic = self.critic.tensors() if self.critic is not None else {}
        if self._ranks.rank:  # it has helped to make them whole
            return
        if self._settings.stage.lora is None:
            self.model.save_pretrained(str(directory), state_dict=weights)
        else:
            save_adapted(self.model, directory)
        save_file(tensors, str(directory / "optimizer.safetensors"))
        if critic:
            save_file(critic, str(directory / CRITIC_FILE))

    def load(self, directory: Path) -> None:
        """Inverse of `save`, bit for bit."""
        if self._settings.stage.lora is None:
            saved, mine = load_model(directory).state_dict(), self.model.state_dict()
            self.model.load_state_dict({name: spread_like(saved[name], mine[name]) for name in mine})
        else:
            load_adapters(self.model, load_file(str(directory / ADAPTER_FILE)))
        tensors = load_file(str(directory / "optimizer.safetensors"))
        self.updates = int(tensors.pop("updates"))
        load_moments(self.optimizer, tensors)
        if self.critic is not None:
            self.critic.load_tensors(load_file(str(directory / CRITIC_FILE)))
