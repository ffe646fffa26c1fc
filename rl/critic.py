"""PPO's value function: a copy of the policy's layers with a scalar head, on the same forests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from data.collate import ForestBatch
from rl.config.algorithm import Critic
from rl.logprobs import hidden_states
from rl.losses.value import value_loss
from rl.model import load_model
from rl.optimizer import adamw
from rl.policy_rows import Columns

FILE = "critic.safetensors"


class CriticLearner(torch.nn.Module):
    """Value of the text in front of a token: V at the label's node."""

    def __init__(self, model_dir: Path, config: Critic, device: torch.device, *, bfloat16: bool) -> None:
        """Begins as the policy does, with a head of zeros: every value is 0."""
        super().__init__()
        self._config, self._bfloat16 = config, bfloat16
        self.model: Any = load_model(model_dir).to(device)
        self.head = torch.nn.Linear(self.model.config.hidden_size, 1).to(device)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        # Nothing predicts words here: an output layer of its own would never have a gradient.
        output = self.model.get_output_embeddings()
        if not self.model.config.tie_word_embeddings:
            output.requires_grad_(False)
        self.optimizer = adamw(self.named_parameters(), lr=config.learning_rate, weight_decay=0.0)

    def forward(self, batch: ForestBatch) -> torch.Tensor:
        """-> [L]"""
        hidden = hidden_states(self.model, batch, bfloat16=self._bfloat16)
        values: torch.Tensor = self.head(hidden.float())[batch.nodes, 0]
        return values

    def accumulate(self, batch: ForestBatch, columns: Columns) -> float:
        """Adds to the gradients. -> this forest's share of the loss."""
        values = self(batch)
        errors = value_loss(values, columns.values, columns.returns, clip=self._config.value_clip)
        loss = (columns.weights * errors).sum()
        loss.backward()
        return float(loss.detach())

    def gradients(self) -> list[torch.Tensor]:
        """Of every parameter that learns; zeros where no forest of this rank came by."""
        found = []
        for parameter in self.parameters():
            if parameter.requires_grad:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                found.append(parameter.grad)
        return found

    def step(self, max_grad_norm: float) -> None:
        """One update; left out when a gradient is not finite."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), max_grad_norm)
        if bool(torch.isfinite(norm)):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def save(self, directory: Path) -> None:
        """Weights and moments beside the policy's."""
        tensors = {f"weight.{name}": tensor.contiguous() for name, tensor in self._own_state().items()}
        for index, entry in self.optimizer.state_dict()["state"].items():
            tensors |= {f"moment.{index}.{name}": value.contiguous() for name, value in entry.items()}
        save_file(tensors, str(directory / FILE))

    def load(self, directory: Path) -> None:
        """Inverse of `save`, bit for bit."""
        tensors = load_file(str(directory / FILE))
        weights = {name[7:]: value for name, value in tensors.items() if name.startswith("weight.")}
        self.load_state_dict(weights, strict=False)
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            kind, _, rest = key.partition(".")
            if kind == "moment":
                index, name = rest.split(".", 1)
                state.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _own_state(self) -> dict[str, torch.Tensor]:
        """Without the policy's output layer, which a tied model keeps in its embeddings anyway."""
        return {name: tensor for name, tensor in self.state_dict().items() if "lm_head" not in name}


def explained_variance(values: Sequence[float], returns: Sequence[float]) -> float:
    """1 - Var(G - V) / Var(G): 1 is a perfect critic, 0 one that says the mean, or nothing to explain."""
    told, wanted = torch.tensor(values), torch.tensor(returns)
    spread = float(wanted.var(correction=0)) if len(wanted) else 0.0
    return 1.0 - float((wanted - told).var(correction=0)) / spread if spread > 0 else 0.0
