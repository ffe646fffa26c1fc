"""Whether a model can be trained in forests: its layers may mix tokens by ordinary attention only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_RECURRENT = ("mamba", "rwkv", "ssm_", "linear_conv", "linear_key", "lru_width", "conv_kernel")
"""Beginnings of the settings of layers that carry a state from token to token."""


def unsupported(config: Mapping[str, Any]) -> str | None:
    """Why a Hugging Face `config.json` names a model that cannot be trained here, or None."""
    if config.get("is_encoder_decoder"):
        return "it has an encoder; forests need a decoder alone"
    recurrent = sorted(key for key in config if key.startswith(_RECURRENT))
    if recurrent:
        return f"it has recurrent layers ({recurrent[0]}), which read tokens in sequence, not by ancestors"
    others = sorted({str(kind) for kind in config.get("layer_types") or ()} - {"full_attention"})
    if others:
        return f"it has layers of kind {', '.join(others)}; a tree's attention is over all ancestors"
    if config.get("sliding_window") and config.get("use_sliding_window", "layer_types" not in config):
        return f"its attention ends after {config['sliding_window']} tokens (sliding_window)"
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if config.get(key):
            return f"it soft-caps its logits ({key}), which the forest's attention and head do not"
    for key in ("logit_scale", "logits_scaling"):
        if config.get(key) not in (None, 1, 1.0):
            return f"it scales its logits ({key}), which the forest's head does not"
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Exactness:
    """How far a forest's log-probabilities are from those of its rows (rl.learner.attention.exactness)."""

    difference: float
    """Largest difference of a log-probability in nats; infinity when the forest pass fails."""
    reason: str | None
    """Why the model cannot be trained in forests; None when it can."""
    key: str
    """Setting of config.json that is the cause; "model_type" when there is no single one."""
    dropout: tuple[str, ...]
    """Settings of config.json with dropout, which training switches off."""
    layers: tuple[str, ...] = ()
    """Dotted paths of the linear layers that can have an adapter; empty when the forest pass fails."""
