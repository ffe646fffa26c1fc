"""Log-probabilities of the tokens in a packed batch: the one code path of SFT, policy, reference and
canary.
"""

import torch

from data.collate import PackedBatch


def token_logprobs(
    model: torch.nn.Module, batch: PackedBatch, *, temperature: float = 1.0, bfloat16: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """-> (log p(token) [B, L], entropy [B, L]) of each token given the earlier tokens of its row.

    Entry t belongs to the token at t; the first token of a row has no prediction and gets 0. Logits are
    divided by `temperature` as the engine does before sampling, and normalised in float32.
    """
    with torch.autocast(batch.ids.device.type, torch.bfloat16, enabled=bfloat16):
        logits = model(
            input_ids=batch.ids,
            position_ids=batch.positions,
            attention_mask=batch.attention_mask(),
            use_cache=False,
        ).logits
    scaled = logits[:, :-1].float() / temperature
    logp = torch.log_softmax(scaled, dim=-1)
    picked = logp.gather(-1, batch.ids[:, 1:, None])[..., 0]
    with torch.no_grad():
        entropy = -(logp.exp() * logp).sum(-1)
    inside = (batch.positions[:, 1:] > 0).float()
    first = torch.zeros_like(picked[:, :1])
    return torch.cat([first, picked * inside], dim=1), torch.cat([first, entropy * inside], dim=1)
