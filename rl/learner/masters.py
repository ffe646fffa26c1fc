"""Weights in bfloat16 with float32 masters: passes read the former, the optimizer moves the latter.

Only matrices are rounded. Vectors (norms, biases), adapters and rows of added tags stay float32, and so does
the residual stream: a pass computes what it would with the float32 copies of the rounded matrices.
"""

from collections.abc import Callable
from typing import Any

import torch

Make = Callable[..., torch.optim.Optimizer]


@torch.no_grad()
def round_weights(model: Any) -> dict[str, torch.Tensor]:
    """Round the matrices of a model to bfloat16, in place, before it has adapters. -> their float32 values by
    parameter name, to become masters.
    """
    masters = {}
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            masters[name] = parameter.data
            parameter.data = parameter.data.to(torch.bfloat16)
    widen_embeddings(model)
    return masters


def widen_embeddings(model: Any) -> None:
    """Give the residual stream float32 inputs, whatever the embedding is in."""
    model.get_input_embeddings().register_forward_hook(lambda _module, _inputs, found: found.float())


def as_read(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights as passes in bfloat16 read them: matrices rounded, vectors as they are."""
    return {name: t.to(torch.bfloat16) if t.dim() >= 2 else t for name, t in weights.items()}


class MasterWeights(torch.optim.Optimizer):
    """Another optimizer's updates, made on float32 masters and rounded into the model.

    State and parameter groups are those of that optimizer, whose parameters are the masters.
    """

    def __init__(
        self, make: Make, model: Any, masters: dict[str, torch.Tensor], *, lr: float, weight_decay: float
    ) -> None:
        """`make`: one of `rl.learner.optimizer.OPTIMIZERS`; `masters`: from `round_weights`."""
        named: list[tuple[str, torch.nn.Parameter]] = []
        self.pairs: dict[str, tuple[torch.nn.Parameter, torch.nn.Parameter]] = {}
        """Name -> (the model's rounded parameter, its master)."""
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            if name in masters:
                master = torch.nn.Parameter(masters[name])
                self.pairs[name] = parameter, master
                named.append((name, master))
            else:
                named.append((name, parameter))
        self._inner = make(named, lr=lr, weight_decay=weight_decay)
        super().__init__(self._inner.param_groups, self._inner.defaults)
        self._share()

    def _share(self) -> None:
        """One set of groups and state, on which schedules and checkpoints act."""
        self.param_groups, self.state = self._inner.param_groups, self._inner.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One update of the masters, then of the model's weights."""
        assert closure is None, "closures are not supported"
        for parameter, master in self.pairs.values():
            master.grad = None if parameter.grad is None else parameter.grad.float()
        self._inner.step()
        for parameter, master in self.pairs.values():
            parameter.copy_(master)
            master.grad = None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of the model's weights."""
        super().zero_grad(set_to_none=True)
        for parameter, _ in self.pairs.values():
            parameter.grad = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._inner.load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def load_masters(self, weights: dict[str, torch.Tensor]) -> None:
        """Set masters and weights from float32 tensors by name."""
        for name, (parameter, master) in self.pairs.items():
            master.copy_(weights[name])
            parameter.copy_(master)


def with_masters(
    weights: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """Weights by name, float32: masters where there are some."""
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
    pairs = inner.pairs if isinstance(inner, MasterWeights) else {}
    return {
        name: pairs[name][1].detach().to("cpu") if name in pairs else tensor.float()
        for name, tensor in weights.items()
    }


def make_optimizer(
    make: Make, model: Any, masters: dict[str, torch.Tensor], *, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimizer of a model, on masters where there are some."""
    if masters:
        return MasterWeights(make, model, masters, lr=lr, weight_decay=weight_decay)
    return make(model.named_parameters(), lr=lr, weight_decay=weight_decay)
