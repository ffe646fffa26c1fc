"""Whether forests can stand for a model's rows: its layers may mix tokens by ordinary attention only."""

from collections.abc import Mapping
from typing import Any

_RECURRENT = ("mamba", "rwkv", "ssm_", "linear_conv", "linear_key", "lru_width", "conv_kernel")
"""Beginnings of the settings of layers that carry a state from token to token."""


def unsupported(config: Mapping[str, Any]) -> str | None:
    """Why a Hugging Face `config.json` names a model that cannot be trained here, or None."""
    if config.get("is_encoder_decoder"):
        return "it has an encoder; forests need a decoder alone"
    recurrent = sorted(key for key in config if key.startswith(_RECURRENT))
    if recurrent:
        return f"it has recurrent layers ({recurrent[0]}), which see tokens in a row, not their ancestors"
    others = sorted({str(kind) for kind in config.get("layer_types") or ()} - {"full_attention"})
    if others:
        return f"it has layers of kind {', '.join(others)}; a tree's attention is over all ancestors"
    if config.get("sliding_window") and config.get("use_sliding_window", "layer_types" not in config):
        return f"its attention ends after {config['sliding_window']} tokens (sliding_window)"
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if config.get(key):
            return f"it bends its logits ({key}), which the forest's attention and head do not"
    for key in ("logit_scale", "logits_scaling"):
        if config.get(key) not in (None, 1, 1.0):
            return f"it scales its logits ({key}), which the forest's head does not"
    return None
