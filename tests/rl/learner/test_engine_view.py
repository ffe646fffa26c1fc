"""The policy as an engine has it: rounded weights exactly, rounding of the layers in size."""

from pathlib import Path
from typing import Any

import pytest
import torch
from engine_lab import VOCABULARY, make_model, prompt
from transformers import AutoModelForCausalLM

from rl.config.lora import Lora
from rl.config.stages import RlStage
from rl.controller.agreement import rms
from rl.learner.learner import Learner
from rl.learner.settings import LearnerSettings

TEXT = (prompt(1, 30), prompt(2, 40))


def learner(folder: Path, dtype: Any, lora: Lora | None = None) -> Learner:
    stage = RlStage(
        name="rl", kind="rl", steps=5, groups_per_step=1, samples_per_group=2, learning_rate=1e-3,
        forest_tokens=64, lora=lora,
    )  # fmt: skip
    return Learner(folder, LearnerSettings(stage=stage, max_tokens=64, publish_dtype=dtype))


@torch.no_grad()
def plain(model: Any) -> list[float]:
    """Log-probabilities of the text by transformers alone."""
    context, output = TEXT
    logits = model(torch.tensor([[*context, *output]])).logits[0, len(context) - 1 : -1].float()
    picked = logits.log_softmax(-1)[torch.arange(len(output)), torch.tensor(output)]
    return [float(value) for value in picked]


def with_weights(folder: Path, weights: dict[str, torch.Tensor]) -> Any:
    """The model of a directory with these weights, computed in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    missing, unknown = model.load_state_dict({n: w.float() for n, w in weights.items()}, strict=False)
    assert not unknown and missing in ([], ["lm_head.weight"])
    return model


@pytest.mark.parametrize("lora", [None, Lora(rank=4, alpha=8)])
def test_weights_are_rounded_once_adapters_merged(tmp_path: Path, lora: Lora | None) -> None:
    """Equal to a plain model with the published weights in bfloat16, and unlike the unrounded ones."""
    make_model(0).save_pretrained(tmp_path)
    mine = learner(tmp_path, "bfloat16", lora)
    with torch.no_grad():
        for index, parameter in enumerate(mine.model.parameters()):
            if parameter.requires_grad:
                parameter.add_(
                    0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
                )
    before = {name: tensor.clone() for name, tensor in mine.weights().items()}
    (found,) = mine.logprobs([TEXT])
    rounded = plain(with_weights(tmp_path, {name: tensor.bfloat16() for name, tensor in before.items()}))
    assert found == pytest.approx(rounded, abs=1e-4)
    exact = plain(with_weights(tmp_path, before))
    assert rms([a - b for a, b in zip(exact, rounded, strict=True)]) > 1e-3
    assert all(torch.equal(tensor, before[name]) for name, tensor in mine.weights().items()), "left alone"
    if lora is not None:
        (again,) = learner(tmp_path, "float32", lora).logprobs([TEXT])
        assert again == pytest.approx(plain(make_model(0)), abs=1e-4), "adapters begin without effect"


def test_rounding_of_the_layers_is_as_large_as_that_of_a_bfloat16_model(tmp_path: Path) -> None:
    make_model(0).save_pretrained(tmp_path)
    mine = learner(tmp_path, "bfloat16")
    (exact,), (rounded,) = mine.logprobs([TEXT]), mine.logprobs([TEXT], rounds=True)
    half = plain(AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval())
    noise = [rms([a - b for a, b in zip(values, exact, strict=True)]) for values in (rounded, half)]
    assert noise[1] > 1e-3 and 0.5 < noise[0] / noise[1] < 2.0
    assert len(exact) == len(TEXT[1]) and max(TEXT[1]) < VOCABULARY


def test_float32_engines_have_the_learners_own_numbers(tmp_path: Path) -> None:
    make_model(0).save_pretrained(tmp_path)
    (found,) = learner(tmp_path, "float32").logprobs([TEXT])
    assert found == pytest.approx(plain(make_model(0)), abs=1e-5)
