"""The model that a stage trains: weights in their number format, with adapters where the stage has them."""

from pathlib import Path
from typing import Any

import torch

from rl.config.stages import RlStage, SftStage
from rl.learner.added_tags import read_tag_ids
from rl.learner.lora import add_adapters
from rl.learner.masters import round_weights
from rl.learner.model import load_model


def policy_model(
    directory: Path,
    stage: SftStage | RlStage,
    *,
    vocabulary: int | None,
    seed: int,
    device: torch.device,
    rounded: bool,
) -> tuple[Any, dict[str, torch.Tensor]]:
    """-> the model with the weights in `directory`, and masters of those that are `rounded` to bfloat16.

    `vocabulary`: number of the tokenizer's ids; `seed`: of new adapters.
    """
    model = load_model(directory, vocabulary).to(device)
    masters = round_weights(model) if rounded else {}
    if stage.lora is not None:
        add_adapters(model, stage.lora, seed=seed, tag_ids=read_tag_ids(directory))
    return model, masters
