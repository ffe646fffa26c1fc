"""Log-probabilities of a forest's labels: the one code path of SFT, policy, reference and canary."""

from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from data.forests.collate import ForestBatch
from rl.learner.attention.interface import plan_for

LOGITS = 2**24
"""Most logits in memory at once; further labels follow in chunks, recomputed in the backward pass."""


def forest_logprobs(
    model: Any, batch: ForestBatch, *, temperature: float = 1.0, bfloat16: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """-> (log p(target) [L], entropy [L], detached) of each label given its node and the node's ancestors.

    Logits are divided by `temperature` as the engine does before sampling, and computed and normalised in
    float32 whatever the layers below use: at most LOGITS of them exist at once.
    """
    found: tuple[torch.Tensor, torch.Tensor] = model(batch=batch, temperature=temperature, bfloat16=bfloat16)
    return found


def score_forests(model: Any) -> None:
    """Make `forest_logprobs` the model's own forward pass, so that wrappers of the model's call (data
    parallelism, sharding) cover all of it.
    """
    model.forward = partial(_forward, model)


def _forward(
    model: Any, *, batch: ForestBatch, temperature: float, bfloat16: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    nodes, place = torch.unique(batch.nodes, return_inverse=True)
    hidden = hidden_states(model, batch, bfloat16=bfloat16)[nodes]
    head = model.get_output_embeddings()
    size = max(1, LOGITS // head.weight.shape[0])
    # Labels are sorted by their node's chunk, so that each chunk's logits serve them all.
    order = torch.argsort(place, stable=True)
    starts = torch.arange(0, len(nodes), size, device=place.device)
    cuts = torch.searchsorted(place[order], starts).tolist()
    logprobs, entropies = [], []
    for start, first, last in zip(starts.tolist(), cuts, [*cuts[1:], len(order)], strict=True):
        mine = order[first:last]
        piece, targets = hidden[start : start + size], batch.targets[mine]
        score = partial(_head, piece, head.weight, head.bias, place[mine] - start, targets, temperature)
        if len(nodes) > size and torch.is_grad_enabled():
            picked, entropy = checkpoint(score, use_reentrant=False)
        else:
            picked, entropy = score()
        logprobs.append(picked)
        entropies.append(entropy)
    back = torch.argsort(order)
    return torch.cat(logprobs)[back], torch.cat(entropies)[back]


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
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    place: torch.Tensor,
    targets: torch.Tensor,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """hidden [N, H], place and targets [l] -> log p and entropy, [l] each."""
    logits = torch.nn.functional.linear(
        hidden.float(), weight.float(), None if bias is None else bias.float()
    )
    logp = torch.log_softmax(logits / temperature, dim=-1)
    with torch.no_grad():
        entropy = torch.special.entr(logp.exp()).sum(-1)
    return logp[place, targets], entropy[place]
