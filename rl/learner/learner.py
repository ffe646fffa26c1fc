"""One optimizer step on groups of scored episodes, in one process; no Ray.

Per step: rewards -> advantages -> one row per call -> forests -> policy loss -> optimizer. Minibatches split
the groups in order; each is one update. Denominators count every episode of an update, so neither the way its
rows are cut into forests nor the number of ranks changes the result, except for rounding.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from data.forests.collate import collate
from data.forests.forest import build_forest
from data.forests.rows import Row
from rl.controller.seams import Text
from rl.learner.call_rows import CallRows
from rl.learner.collectives import Ranks, gradients_of
from rl.learner.critic import CRITIC_FILE, CriticLearner, explained_variance
from rl.learner.engine_view import as_engine
from rl.learner.forest_parts import ForestPart, forest_parts
from rl.learner.implicit import IMPLICIT_FILE, ImplicitLearner, ImplicitScores
from rl.learner.logprobs import forest_logprobs
from rl.learner.lora import ADAPTER_FILE, adapter_tensors, load_adapters, merged_weights
from rl.learner.masters import (
    MasterWeights,
    as_read,
    make_optimizer,
    round_weights,
    widen_embeddings,
    with_masters,
)
from rl.learner.model import load_model, publishable_weights
from rl.learner.optimizer import optimizer_of, warmup_linear
from rl.learner.optimizer_state import load_moments, moments
from rl.learner.passes import SUMS, ForestPasses
from rl.learner.policy_model import policy_model
from rl.learner.settings import LearnerSettings
from rl.learner.sharding import shard, spread_like, whole
from rl.learner.snapshot import MODEL_FILE, OPTIMIZER_FILE, Snapshot
from rl.learner.training_rows import (
    TokenCredit,
    critic_credit,
    critic_tokens,
    group_credit,
    implicit_credit,
    make_rows,
)
from rl.scored_group import ScoredGroup


class Learner:
    """Policy, reference, critic or implicit reward model, and optimizers of one rl stage, in one process."""

    def __init__(self, model_dir: Path, settings: LearnerSettings, ranks: Ranks | None = None) -> None:
        """`model_dir`: Hugging Face directory with the stage's initial weights. `ranks`: after `init`."""
        self._settings = settings
        self._ranks = ranks or Ranks()
        stage = settings.stage
        self._sharded = stage.sharding == "fsdp" and self._ranks.world > 1
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        vocabulary = settings.vocabulary
        rounded = stage.weights == "bfloat16"
        self.model, masters = policy_model(
            model_dir,
            stage,
            vocabulary=vocabulary,
            seed=settings.seed,
            device=self.device,
            rounded=rounded and not self._sharded,
        )
        self.model.train()
        if stage.activation_checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.reference = None
        if stage.algorithm.kl_coef > 0:
            self.reference = load_model(model_dir, vocabulary=vocabulary).to(self.device).eval()
            if rounded and not self._sharded:
                round_weights(self.reference)
        for model in (self.model, self.reference):
            if model is not None and self._sharded:
                if rounded:  # the shards are the masters; they are gathered as bfloat16
                    widen_embeddings(model)
                shard(model, model.get_decoder().layers, self._ranks, self.device, bfloat16=rounded)
        self.optimizer = make_optimizer(
            optimizer_of(stage),
            self.model,
            masters,
            lr=stage.learning_rate,
            weight_decay=stage.weight_decay,
        )
        self.critic = None
        if stage.algorithm.critic is not None:
            self.critic = CriticLearner(
                model_dir,
                stage.algorithm.critic,
                self.device,
                bfloat16=stage.bfloat16,
                ranks=self._ranks if self._sharded else None,
            )
        self.implicit = None
        if stage.algorithm.implicit is not None:
            self.implicit = ImplicitLearner(model_dir, settings, self.device, self._ranks)
        self._passes = ForestPasses(
            stage,
            self._ranks,
            self.device,
            model=self.model,
            reference=self.reference,
            critic=self.critic,
            sharded=self._sharded,
        )
        self.updates = 0

    def step(self, step: int, groups: Sequence[ScoredGroup]) -> dict[str, float]:
        """Train on one batch. Returns metrics: means over what their names say."""
        stage = self._settings.stage
        factor = warmup_linear(
            step, warmup=stage.warmup_steps, total=stage.steps, final=stage.final_learning_rate_fraction
        )
        for group in self.optimizer.param_groups:
            group["lr"] = stage.learning_rate * factor
        judged = None if self.implicit is None else self.implicit.step(groups)
        credit = self._credit(groups, judged)
        rows = make_rows(
            groups,
            stage.algorithm,
            credit,
            minibatches=stage.minibatches,
            max_tokens=self._settings.max_tokens,
        )
        updates = [forest_parts(minibatch, stage.forest_tokens, self.device) for minibatch in rows]
        if stage.algorithm.proximal == "recomputed":
            for parts in updates:
                for part, values in zip(parts, self._passes.logprobs(parts), strict=True):
                    part.recomputed = values
        totals: dict[str, float] = {}
        before, counted = self.updates, 0
        mismatch: dict[str, float] = {}
        for parts in updates:
            if not parts:
                continue
            counted += 1
            made = self._update(step, parts)
            found = self._passes.mismatch()
            mismatch = found if counted == 1 else mismatch  # later updates have other weights
            for name, value in made.items():
                last = totals.get(name, 0.0)
                totals[name] = max(last, value) if name.startswith("max_") else last + value
        mean = {name: value if name.startswith("max_") else value / counted for name, value in totals.items()}
        critic = stage.algorithm.critic
        if critic is not None and credit.values is not None and credit.returns is not None:
            said, wanted = (critic_tokens(each, critic) for each in (credit.values, credit.returns))
            mean["explained_variance"] = explained_variance(said, wanted)
        updated = float(self.updates - before)
        found = {**mean, **mismatch, **({} if judged is None else judged.metrics)}
        return {**found, "learning_rate": stage.learning_rate * factor, "updates": updated}

    def _credit(self, groups: Sequence[ScoredGroup], judged: ImplicitScores | None) -> TokenCredit:
        """Credit from the rewards, those of `judged` tokens among them, or from a critic's values."""
        algorithm = self._settings.stage.algorithm
        if judged is not None and algorithm.implicit is not None:
            return implicit_credit(groups, algorithm, algorithm.implicit, judged.rewards)
        if self.critic is None or algorithm.critic is None:
            return group_credit(groups, algorithm)
        calls = CallRows.of(groups, self._settings.stage.forest_tokens)
        nested = calls.nested(self._passes.values(calls.members))
        return critic_credit(groups, algorithm.critic, nested)

    def _update(self, step: int, parts: list[ForestPart]) -> dict[str, float]:
        """One optimizer update from the forests of a minibatch. Returns metrics."""
        stage = self._settings.stage
        sums, largest = self._passes.accumulate(step, parts)
        self._share(sums)
        skipped = {}
        if self.critic is not None:
            skipped["critic_skipped_updates"] = float(not self.critic.step(stage.max_grad_norm))
        norm = whole(torch.nn.utils.clip_grad_norm_(self.model.parameters(), stage.max_grad_norm))
        # A non-finite gradient would ruin the weights for good; the update is skipped and counted.
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
            **skipped,
            "trained_tokens": labels,
            "row_tokens": float(row_tokens),
            "forest_tokens": float(tokens),
            "token_ratio": row_tokens / tokens,
        }

    def _share(self, sums: dict[str, float]) -> None:
        """Sums gradients and `sums` over ranks; FSDP has reduced sharded gradients already."""
        if self._ranks.world == 1:
            return
        gradients = []
        if not self._sharded:
            gradients = gradients_of(self.model)
            gradients += gradients_of(self.critic) if self.critic is not None else []
        totals = torch.tensor([sums[name] for name in SUMS], dtype=torch.float64)
        self._ranks.all_reduce_sum([*gradients, totals])
        sums.update(zip(SUMS, totals.tolist(), strict=True))

    def logprobs(self, texts: Sequence[Text], *, rounds: bool = False) -> list[list[float]]:
        """Log-probabilities of each text's output under the current weights as engines have them
        (`rl.learner.engine_view`), at temperature 1, for the canary. `rounds`: computed as an engine does.
        """
        found = []
        with as_engine(self.model, getattr(torch, self._settings.publish_dtype), rounds=rounds):
            for context, output in texts:
                row = Row(ids=(*context, *output), first=len(context), weights=(1.0,) * len(output))
                values, _ = forest_logprobs(self.model, collate(build_forest([row])).to(self.device))
                found.append([float(value) for value in values])
        return found

    def weights(self) -> dict[str, torch.Tensor]:
        """Current weights by checkpoint name, float32: masters where there are some."""
        return with_masters(merged_weights(self.model), self.optimizer)

    def published(self) -> dict[str, torch.Tensor]:
        """What engines get: the weights, rounded as they serve them, or with LoRA the adapters alone."""
        if self._settings.stage.lora is not None:
            return adapter_tensors(self.model)
        weights, dtype = publishable_weights(self.model), getattr(torch, self._settings.publish_dtype)
        if self._settings.stage.weights == "bfloat16":
            weights = as_read(weights)
        return {name: tensor.to(dtype) for name, tensor in weights.items()}

    def snapshot(self) -> Snapshot | None:
        """A copy of all that a checkpoint holds; None on ranks other than 0, which only gather weights."""
        weights = self.weights()
        optimizer = {**moments(self.optimizer), "updates": torch.tensor(self.updates)}
        tensors = {MODEL_FILE: weights, OPTIMIZER_FILE: optimizer}
        if self.critic is not None:
            tensors[CRITIC_FILE] = self.critic.tensors()
        if self.implicit is not None:
            tensors[IMPLICIT_FILE] = self.implicit.tensors()
        if self._settings.stage.lora is not None:
            tensors[ADAPTER_FILE] = adapter_tensors(self.model)
        return Snapshot.of(self.model, tensors) if self._ranks.rank == 0 else None

    def load(self, directory: Path) -> None:
        """Restores what `Snapshot.write` wrote, bit for bit, into any number of ranks, sharded or not."""
        if self._settings.stage.lora is None:
            saved, mine = load_model(directory).state_dict(), self.model.state_dict()
            self.model.load_state_dict({name: spread_like(saved[name], mine[name]) for name in mine})
            if isinstance(self.optimizer, MasterWeights):
                self.optimizer.load_masters(saved)
        else:
            load_adapters(self.model, load_file(str(directory / ADAPTER_FILE)))
        tensors = load_file(str(directory / OPTIMIZER_FILE))
        self.updates = int(tensors.pop("updates"))
        load_moments(self.optimizer, tensors)
        if self.critic is not None:
            self.critic.load_tensors(load_file(str(directory / CRITIC_FILE)))
        if self.implicit is not None:
            self.implicit.load_tensors(load_file(str(directory / IMPLICIT_FILE)))
