"""Forward and backward passes over forests, distributed over the data-parallel ranks.

Each forest is computed by one rank; results are summed over ranks, so every rank has all of them at the end.
Under FSDP a pass gathers weights from all ranks, so all ranks must make the same number of passes: a rank
with fewer forests makes dummy passes, whose results and gradients are zero.
"""

from collections.abc import Sequence
from typing import Any

import torch

from data.forests.collate import ForestBatch, collate
from data.forests.forest import Forest, build_forest
from data.forests.rows import Row
from data.forests.split import CostModel, deal
from rl.algorithms.corrections.levels import at_level
from rl.config.stages import RlStage
from rl.learner.collectives import Ranks
from rl.learner.critic import CriticLearner
from rl.learner.forest_parts import ForestPart, SequenceTerms
from rl.learner.logprobs import forest_logprobs
from rl.learner.mismatch import mismatch_metrics, mismatch_sums, no_mismatch
from rl.learner.objective import (
    correction_weights,
    needs_current_logprobs,
    policy_objective,
    proximal_logprobs,
)

SUMS = ("loss", "labels", "clipped_share", "policy_kl", "entropy", "reference_kl", "correction", "value_loss")
"""What `ForestPasses.accumulate` sums over labels."""


class ForestPasses:
    """The passes of one stage through policy, frozen reference and critic."""

    def __init__(
        self,
        stage: RlStage,
        ranks: Ranks,
        device: torch.device,
        *,
        model: Any,
        reference: Any,
        critic: CriticLearner | None,
        sharded: bool,
    ) -> None:
        """`reference` and `critic` are None where the algorithm has none; `sharded`: FSDP over `ranks`."""
        self._stage, self._ranks, self._device = stage, ranks, device
        self._model, self._reference, self._critic = model, reference, critic
        self._sharded = sharded
        self._mismatch = no_mismatch()
        # FSDP averages gradients over ranks, and an update needs their sum.
        self._factor = ranks.world if sharded else 1

    def values(self, members: Sequence[Sequence[Row]]) -> list[tuple[Forest, torch.Tensor]]:
        """For each list of rows: the forest built from them, and the critic's value at each of its labels."""
        assert self._critic is not None
        forests = [build_forest(part) for part in members]
        values = [torch.zeros(len(forest.labels.nodes), device=self._device) for forest in forests]
        with torch.no_grad():
            for index in self._dealt(forests):
                found = self._critic(collate(forests[index or 0]).to(self._device))
                if index is not None:
                    values[index] = found
        self._ranks.all_reduce_sum(values)
        return list(zip(forests, values, strict=True))

    @torch.no_grad()
    def logprobs(self, parts: Sequence[ForestPart]) -> list[torch.Tensor]:
        """[labels] of every forest under the current weights."""
        found = [torch.zeros_like(part.label_tensors.weights) for part in parts]
        for index in self._dealt([part.forest for part in parts]):
            scored, _ = self._score(self._model, parts[index or 0].batch)
            if index is not None:
                found[index] = scored
        self._ranks.all_reduce_sum(found)
        return found

    def sequence_terms(self, step: int, parts: Sequence[ForestPart]) -> SequenceTerms:
        """Ratios and corrections of whole sequences, computed before any of their tokens is trained."""
        algorithm = self._stage.algorithm
        count = sum(len(part.label_tensors.weights) for part in parts)
        if not needs_current_logprobs(algorithm) and not algorithm.corrections:
            return SequenceTerms(sequence_ratio=None, corrections=torch.ones(count, device=self._device))

        def together(name: str) -> torch.Tensor:
            return torch.cat([getattr(part.label_tensors, name) for part in parts])

        scores = [part.label_tensors.behaviour for part in parts]
        if needs_current_logprobs(algorithm):
            scores = self.logprobs(parts)
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

    def mismatch(self) -> dict[str, float]:
        """`rl.learner.mismatch` of the passes since the last call, summed over ranks; all have to call it."""
        sums, self._mismatch = self._mismatch, no_mismatch()
        self._ranks.all_reduce_sum([sums])
        return mismatch_metrics(sums)

    def accumulate(self, step: int, parts: Sequence[ForestPart]) -> tuple[dict[str, float], float]:
        """Forward and backward of this rank's forests; adds gradients. Returns (SUMS, largest ratio)."""
        sums = dict.fromkeys(SUMS, 0.0)
        sequence_terms, largest = self.sequence_terms(step, parts), 0.0
        for index in self._dealt([part.forest for part in parts]):
            if index is None:
                self._dummy(parts[0])
            else:
                largest = max(largest, self._accumulate(step, parts[index], sequence_terms, sums))
        return sums, largest

    def _dealt(self, forests: Sequence[Forest]) -> list[int | None]:
        """Indices of the forests that this rank computes; None is a dummy pass."""
        cost = CostModel(**self._stage.cost.model_dump())
        dealt = deal([cost.seconds(forest) for forest in forests], self._ranks.world)
        mine = dealt[self._ranks.rank]
        dummies = max(map(len, dealt)) - len(mine) if self._sharded else 0
        return [*mine, *[None] * dummies]

    def _dummy(self, part: ForestPart) -> None:
        """Make the passes of one forest with gradients of zero."""
        if self._reference is not None:
            with torch.no_grad():
                self._score(self._reference, part.batch)
        (0.0 * self._score(self._model, part.batch)[0].sum()).backward()
        if self._critic is not None:
            (0.0 * self._critic(part.batch).sum()).backward()

    def _accumulate(
        self, step: int, part: ForestPart, sequence_terms: SequenceTerms, sums: dict[str, float]
    ) -> float:
        """Forward and backward of one forest; adds to gradients and `sums`. Returns the largest ratio."""
        algorithm = self._stage.algorithm
        reference = None
        if self._reference is not None:
            with torch.no_grad():
                reference, _ = self._score(self._reference, part.batch)
        logprobs, entropy = self._score(self._model, part.batch, entropy=True)
        assert entropy is not None
        ratio = sequence_terms.sequence_ratio
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
            sequence_ratio=None if ratio is None else ratio[part.label_slice],
            corrections=sequence_terms.corrections[part.label_slice],
            reference=reference,
        )
        mine = part.label_tensors.versions == step
        self._mismatch += mismatch_sums(logprobs.detach()[mine], part.label_tensors.behaviour[mine])
        (self._factor * result.loss).backward()
        if self._critic is not None:
            sums["value_loss"] += self._critic.accumulate(part.batch, part.label_tensors, factor=self._factor)
        sums["loss"] += float(result.loss.detach())
        sums["labels"] += len(logprobs)
        sums["clipped_share"] += float(result.clipped)
        sums["policy_kl"] += float(result.divergence)
        sums["entropy"] += float(entropy.sum())
        sums["reference_kl"] += float(result.reference_kl)
        sums["correction"] += float(result.corrected)
        return float(result.max_ratio)

    def _score(
        self, model: Any, batch: ForestBatch, *, entropy: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(log-probabilities, entropies where asked for), [labels] each, at the temperature that the engine
        samples with.
        """
        stage = self._stage
        return forest_logprobs(
            model,
            batch,
            temperature=stage.temperature,
            bfloat16=stage.bfloat16,
            entropy=entropy,
        )
