"""The policy as an engine of another number format has it: with the engine's weights, or its arithmetic too.

A bfloat16 engine differs from a float32 learner in two ways: it rounds every weight when it loads it, and it
rounds in every layer while it computes. The first is known exactly, so the canary compares like with like:
expected log-probabilities are those of the rounded weights, computed in float32. The second differs from one
kernel to the next; how much it is for these weights and this text shows when the learner rounds as well.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from rl.learner.lora import merged_layers

_USES = ("embedding", "mul", "__mul__", "__rmul__")
"""Functions, besides `linear`, in which a layer uses its weights: an embedding, a norm."""
_SUMS = ("add", "__add__", "__radd__", "__iadd__")
"""Sums of the residual stream."""


class EngineNumbers(TorchFunctionMode):
    """Rounds every weight to `dtype` where it is used. `rounds`: also what the layers compute, which is
    float32 otherwise.
    """

    def __init__(self, dtype: torch.dtype, *, rounds: bool = False) -> None:
        super().__init__()
        self._dtype, self._rounds = dtype, rounds

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """One call of a torch function by the model."""
        name = getattr(func, "__name__", "")
        if name == "linear":
            inputs, *weights = args
            return self._float(func(self._computed(inputs), *map(self._weight, weights)))
        if name in _USES and any(isinstance(value, torch.nn.Parameter) for value in args):
            used = [v.to(self._dtype).float() if isinstance(v, torch.nn.Parameter) else v for v in args]
            return self._float(func(*used, **(kwargs or {})))
        result = func(*args, **(kwargs or {}))
        return self._float(result) if self._rounds and name in _SUMS else result

    def _computed(self, value: torch.Tensor) -> torch.Tensor:
        return value.to(self._dtype) if self._rounds else value.float()

    def _weight(self, value: torch.Tensor | None) -> torch.Tensor | None:
        return None if value is None else self._computed(value.detach().to(self._dtype))

    def _float(self, value: torch.Tensor) -> torch.Tensor:
        """float32, after the rounding of a layer's result; numbers without a batch are no result."""
        if not value.is_floating_point() or value.dim() < 2:
            return value
        return self._computed(value).float()


@contextmanager
def as_engine(model: Any, dtype: torch.dtype, *, rounds: bool = False) -> Iterator[None]:
    """Within it, `model` computes as `EngineNumbers` says; adapters are merged into their layers and rounded
    with them, as in an engine. No gradients.
    """
    with torch.no_grad(), merged_layers(model), EngineNumbers(dtype, rounds=rounds):
        yield
