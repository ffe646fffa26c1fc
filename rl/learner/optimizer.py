"""Optimizers: AdamW, and Muon on hidden matrices with AdamW on the rest, behind one torch optimizer
interface.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch.optim import _muon

from rl.config.stages import TrainingStage
from rl.learner.newton_schulz import newton_schulz
from rl.learner.sharding import whole


class MuonAdamW(torch.optim.Optimizer):
    """`torch.optim.Muon` for hidden matrices, `torch.optim.AdamW` for embeddings, output layer and vectors.

    Muon's update is rescaled to AdamW's root mean square ("match_rms_adamw"; Moonlight, arXiv 2502.16982),
    so one learning rate serves both. State and parameter groups are those of the two parts, in that order.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, torch.nn.Parameter]],
        *,
        lr: float,
        weight_decay: float,
        bfloat16: bool = True,
    ) -> None:
        """`bfloat16`: number format of Muon's products, as in torch; False computes them in float32."""
        self._bfloat16 = bfloat16
        hidden, matrices, vectors = _split(named_parameters)
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(hidden, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(
                [
                    {"params": matrices, "weight_decay": weight_decay},
                    {"params": vectors, "weight_decay": 0.0},
                ],
                lr=lr,
                betas=(0.9, 0.95),
            ),
        ]
        super().__init__([group for part in self._parts for group in part.param_groups], {"lr": lr})
        self._share_state()

    def _share_state(self) -> None:
        """Give both parts this object's groups and state, on which schedulers and checkpoints act."""
        start = 0
        for part in self._parts:
            stop = start + len(part.param_groups)
            part.param_groups = self.param_groups[start:stop]
            part.state = self.state
            start = stop

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One update of both parts."""
        assert closure is None, "closures are not supported"
        muon, rest = self._parts
        with nullcontext() if self._bfloat16 else _products_in_float32():
            muon.step()
        rest.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share_state()


@contextmanager
def _products_in_float32() -> Iterator[None]:
    """Let torch's Muon orthogonalise in float32: its own function is fixed to bfloat16, which a CPU without
    that format computes some fifty times as slowly. To be removed when torch makes the format an argument.
    """
    original = _muon._zeropower_via_newtonschulz
    _muon._zeropower_via_newtonschulz = newton_schulz
    try:
        yield
    finally:
        _muon._zeropower_via_newtonschulz = original


_OUTER = ("embed", "lm_head", "score.")
"""Parts of the names of matrices at either end of a model, which Muon does not move."""


def _split(
    named_parameters: Iterable[tuple[str, torch.nn.Parameter]],
) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    hidden: list[torch.nn.Parameter] = []
    matrices: list[torch.nn.Parameter] = []
    vectors: list[torch.nn.Parameter] = []
    for name, parameter in named_parameters:
        if not parameter.requires_grad:
            continue
        if parameter.dim() < 2:
            vectors.append(parameter)
        elif any(part in name for part in _OUTER):
            matrices.append(parameter)
        else:
            hidden.append(parameter)
    return hidden, matrices, vectors


def adamw(
    named_parameters: Iterable[tuple[str, torch.nn.Parameter]], *, lr: float, weight_decay: float
) -> torch.optim.AdamW:
    """AdamW (0.9, 0.95); weight decay on matrices only."""
    hidden, matrices, vectors = _split(named_parameters)
    groups = [
        {"params": hidden + matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"muon": MuonAdamW, "adamw": adamw}
"""Optimizers by their names in recipes: (named parameters, lr, weight_decay) -> optimizer."""


def optimizer_of(stage: TrainingStage) -> Callable[..., torch.optim.Optimizer]:
    """The optimizer of a stage, in its number format: (named parameters, lr, weight_decay) -> optimizer."""
    if stage.optimizer == "muon":
        return partial(MuonAdamW, bfloat16=stage.bfloat16)
    return OPTIMIZERS[stage.optimizer]


def step_if_finite(module: torch.nn.Module, optimizer: torch.optim.Optimizer, max_grad_norm: float) -> bool:
    """One update with clipped gradients, skipped when one is not finite. -> whether it was made."""
    norm = whole(torch.nn.utils.clip_grad_norm_(module.parameters(), max_grad_norm))
    finite = bool(torch.isfinite(norm))
    if finite:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return finite


def warmup_linear(step: int, *, warmup: int, total: int, final: float) -> float:
    """Factor on the learning rate at 0-based `step`: linear to 1 over `warmup` updates, then linear to
    `final`.

    Example: warmup 2, total 6, final 0.2 -> 0.5 1.0 1.0 0.8 0.6 0.4 (and 0.2 at step 6).
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return 1.0 - (1.0 - final) * progress
