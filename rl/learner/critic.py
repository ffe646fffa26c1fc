"""PPO's value function: a copy of the policy's layers with a scalar head, on the same forests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from data.forests.collate import ForestBatch
from rl.algorithms.losses.value import value_loss
from rl.config.algorithm import Critic
from rl.learner.collectives import Ranks
from rl.learner.logprobs import hidden_states
from rl.learner.model import load_model
from rl.learner.optimizer import adamw, step_if_finite
from rl.learner.optimizer_state import load_moments, moments
from rl.learner.policy_rows import LabelTensors
from rl.learner.sharding import shard, spread_like, whole

CRITIC_FILE = "critic.safetensors"


class CriticLearner(torch.nn.Module):
    """Critic with its optimizer: V at a label's node is the value of the text before the label's token."""

    def __init__(
        self,
        model_dir: Path,
        config: Critic,
        device: torch.device,
        *,
        bfloat16: bool,
        ranks: Ranks | None = None,
    ) -> None:
        """Start from the policy's weights, with a head of zeros (all values 0), sharded over `ranks`."""
        super().__init__()
        self._config, self._bfloat16 = config, bfloat16
        self.model: Any = load_model(model_dir).to(device)
        self.head = torch.nn.Linear(self.model.config.hidden_size, 1).to(device)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        # The critic predicts no words, so an untied output layer would never have a gradient.
        output = self.model.get_output_embeddings()
        if not self.model.config.tie_word_embeddings:
            output.requires_grad_(False)
        if ranks is not None:
            shard(self, self.model.get_decoder().layers, ranks, device)
        self.optimizer = adamw(self.named_parameters(), lr=config.learning_rate, weight_decay=0.0)

    def forward(self, batch: ForestBatch) -> torch.Tensor:
        """Return [L], the value at each label."""
        hidden = hidden_states(self.model, batch, bfloat16=self._bfloat16)
        values: torch.Tensor = self.head(hidden.float())[batch.nodes, 0]
        return values

    def accumulate(self, batch: ForestBatch, label_tensors: LabelTensors, *, factor: int) -> float:
        """Add `factor` times the gradient of the loss. Returns this forest's share of the loss."""
        values = self(batch)
        errors = value_loss(values, label_tensors.values, label_tensors.returns, clip=self._config.value_clip)
        loss = (label_tensors.value_weights * errors).sum()
        (factor * loss).backward()
        return float(loss.detach())

    def step(self, max_grad_norm: float) -> bool:
        """One update, skipped when a gradient is not finite. Returns whether it was made."""
        return step_if_finite(self, self.optimizer, max_grad_norm)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Weights and moments, whole: what a checkpoint keeps."""
        # Without the policy's output layer, which a tied model keeps in its embeddings anyway.
        mine = {name: value for name, value in self.state_dict().items() if "lm_head" not in name}
        weights = {f"weight.{name}": whole(value) for name, value in mine.items()}
        return weights | {f"moment.{name}": value for name, value in moments(self.optimizer).items()}

    def load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Inverse of `tensors`, bit for bit."""
        mine = self.state_dict()
        kinds: dict[str, dict[str, torch.Tensor]] = {"weight": {}, "moment": {}}
        for key, value in tensors.items():
            kind, _, name = key.partition(".")
            kinds[kind][name] = value
        weights = {name: spread_like(value, mine[name]) for name, value in kinds["weight"].items()}
        self.load_state_dict(weights, strict=False)
        load_moments(self.optimizer, kinds["moment"])


def explained_variance(values: Sequence[float], returns: Sequence[float]) -> float:
    """1 - Var(G - V) / Var(G): 1 for a perfect critic, 0 for one that predicts the mean."""
    predicted, wanted = torch.tensor(values), torch.tensor(returns)
    spread = float(wanted.var(correction=0)) if len(wanted) else 0.0
    return 1.0 - float((wanted - predicted).var(correction=0)) / spread if spread > 0 else 0.0
