"""Log-probabilities of a forest's labels: the one code path of SFT, policy, reference and canary."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch.utils.checkpoint import checkpoint

from data.forests.collate import ForestBatch
from rl.learner.attention.interface import plan_for
from rl.learner.chunking import LOGITS
from rl.learner.trained_rows import trained_rows

WIDE_HEAD = 8_192
"""From so many words on, the output layer's product is a large share of a pass: `bfloat16` includes it, as
engines that serve in bfloat16 do. Below, it stays in float32.
"""


def forest_logprobs(
    model: Any,
    batch: ForestBatch,
    *,
    temperature: float = 1.0,
    bfloat16: bool = False,
    entropy: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """-> (log p(target) [L], with `entropy` the entropy [L], detached) of each label given its node and the
    node's ancestors.

    Logits are divided by `temperature` as the engine does before sampling, and normalised in float32 whatever
    the layers below use: at most LOGITS of them exist at once.
    """
    found: tuple[torch.Tensor, torch.Tensor | None] = model(
        batch=batch, temperature=temperature, bfloat16=bfloat16, entropy=entropy
    )
    return found


def score_forests(model: Any, vocabulary: int | None = None) -> None:
    """Make `forest_logprobs` the model's own forward pass, so that wrappers of the model's call (data
    parallelism, sharding) cover all of it.

    `vocabulary`: number of ids that exist (the tokenizer's). Probabilities are normalised over these alone,
    as in an engine, which samples no others; None is every row of the output layer.
    """
    model.forward = partial(_forward, model, vocabulary)


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """The output layer, in the number format of its product."""

    weight: torch.Tensor
    """[V, H], one row a word."""
    bias: torch.Tensor | None
    """[V], float32; None without one."""
    rows: torch.Tensor | None
    """[n, H] rows that are trained beside a frozen layer, in place of `weight[ids]`."""
    ids: torch.Tensor | None
    """[n] ids of those rows."""

    @classmethod
    def of(cls, model: Any, vocabulary: int | None = None, *, bfloat16: bool) -> Self:
        """The output layer of a model that may have trained rows (`rl.learner.trained_rows`), cut to the ids
        that exist.
        """
        layer, trained = model.get_output_embeddings(), trained_rows(model)
        half = bfloat16 and layer.weight.shape[0] >= WIDE_HEAD
        dtype = torch.bfloat16 if half else torch.float32
        return cls(
            weight=layer.weight[:vocabulary].to(dtype),
            bias=None if layer.bias is None else layer.bias[:vocabulary].float(),
            rows=None if trained is None else trained.weight.to(dtype),
            ids=None if trained is None else trained.ids,
        )

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden [N, H] -> float32 [N, V]."""
        inputs = hidden.to(self.weight.dtype)
        logits = torch.nn.functional.linear(inputs, self.weight)
        if self.rows is not None:
            logits = logits.index_copy(1, self.ids, torch.nn.functional.linear(inputs, self.rows))
        return logits.float() if self.bias is None else logits.float() + self.bias


def _forward(
    model: Any,
    vocabulary: int | None,
    *,
    batch: ForestBatch,
    temperature: float,
    bfloat16: bool,
    entropy: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    nodes, place = torch.unique(batch.nodes, return_inverse=True)
    hidden = hidden_states(model, batch, bfloat16=bfloat16)[nodes]
    head = Head.of(model, vocabulary, bfloat16=bfloat16)
    size = max(1, LOGITS // head.weight.shape[0])
    # Labels are sorted by their node's chunk, so that each chunk's logits serve them all.
    order = torch.argsort(place, stable=True)
    starts = torch.arange(0, len(nodes), size, device=place.device)
    cuts = torch.searchsorted(place[order], starts).tolist()
    logprobs, entropies = [], []
    for start, first, last in zip(starts.tolist(), cuts, [*cuts[1:], len(order)], strict=True):
        mine = order[first:last]
        piece, targets = hidden[start : start + size], batch.targets[mine]
        score = partial(_head, piece, head, place[mine] - start, targets, temperature, entropy)
        if len(nodes) > size and torch.is_grad_enabled():
            picked, spread = checkpoint(score, use_reentrant=False)
        else:
            picked, spread = score()
        logprobs.append(picked)
        entropies.append(spread)
    back = torch.argsort(order)
    return torch.cat(logprobs)[back], torch.cat(entropies)[back] if entropy else None


def hidden_states(model: Any, batch: ForestBatch, *, bfloat16: bool) -> torch.Tensor:
    """[T, H] the last layer's output."""
    with torch.autocast(batch.ids.device.type, torch.bfloat16, enabled=bfloat16):
        states: torch.Tensor = model.get_decoder()(
            input_ids=batch.ids[None],
            position_ids=batch.positions[None],
            forest=plan_for(batch),
            use_cache=False,
        ).last_hidden_state[0]
    return states


def _head(
    hidden: torch.Tensor,
    head: Head,
    place: torch.Tensor,
    targets: torch.Tensor,
    temperature: float,
    entropy: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """hidden [N, H], place and targets [l] -> log p [l] and, where asked for, entropy [l], else [0]."""
    logp = torch.log_softmax(head.logits(hidden) / temperature, dim=-1)
    if not entropy:
        return logp[place, targets], logp.new_empty(0)
    with torch.no_grad():
        spread = torch.special.entr(logp.exp()).sum(-1)
    return logp[place, targets], spread[place]
