"""An exported directory against the run's own weights, and its log-probabilities by transformers alone."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open

from rl.learner.lora import ADAPTER_FILE
from rollout.engines.adapter_file import B
from rollout.engines.tensor_spec import read_specs

_WEIGHTS = "model.safetensors"


def compare_weights(
    export: Path, model: Path, start: Path, before: Path, *, trained: bool
) -> tuple[str | None, int, int]:
    """-> (what is wrong, or None; tensors that differ from the start; tensors in all).

    `model`: the stage's weights, `start`: those that the run began with, `before`: those that the stage began
    with, from which each layer with a trained adapter must differ.
    """
    found, expected = read_specs(export / _WEIGHTS), read_specs(start / _WEIGHTS)
    if found.keys() != expected.keys():
        name = min(found.keys() ^ expected.keys())
        return f"{name} is {'missing' if name in expected else 'no weight of the model'}", 0, 0
    for name, spec in expected.items():
        if found[name].shape != spec.shape:
            return f"{name} has shape {found[name].shape}, not {spec.shape}", 0, 0
    changed, adapted = 0, _adapted_layers(model)
    with (
        safe_open(export / _WEIGHTS, framework="pt") as ours,
        safe_open(model / _WEIGHTS, framework="pt") as stages,
        safe_open(start / _WEIGHTS, framework="pt") as first,
        safe_open(before / _WEIGHTS, framework="pt") as begun,
    ):
        for name in expected:
            tensor = ours.get_tensor(name)
            if name.removesuffix(".weight") in adapted and torch.equal(
                tensor, begun.get_tensor(name).to(tensor.dtype)
            ):
                return f"{name} is the base's: its adapter was not merged", 0, 0
            if not torch.equal(tensor, stages.get_tensor(name).to(tensor.dtype)):
                return f"{name} is not the stage's weight", 0, 0
            changed += not torch.equal(tensor, first.get_tensor(name).to(tensor.dtype))
    if trained and not changed:
        return "no weight differs from those that the run began with", 0, len(expected)
    return None, changed, len(expected)


def _adapted_layers(model: Path) -> set[str]:
    """Paths of the layers whose adapter in a stage's folder computes anything (B is not zero)."""
    file = model / ADAPTER_FILE
    if not file.is_file():
        return set()
    with safe_open(file, framework="pt") as adapters:
        names = [name for name in adapters.keys() if name.endswith(B)]  # noqa: SIM118 - not a mapping
        return {name.removesuffix(B) for name in names if bool(adapters.get_tensor(name).any())}


@torch.no_grad()
def plain_logprobs(
    directory: Path,
    texts: Sequence[tuple[Sequence[int], Sequence[int]]],
    temperature: float,
    vocabulary: int,
) -> list[tuple[float, ...]]:
    """For each (context, output): [T] log-probabilities of the output over the first `vocabulary` ids, by one
    forward pass of transformers in float32.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        str(directory), dtype=torch.float32, trust_remote_code=False, use_safetensors=True
    ).eval()
    found = []
    for context, output in texts:
        logits = model(torch.tensor([[*context, *output]])).logits[0, len(context) - 1 : -1, :vocabulary]
        logp = (logits / temperature).log_softmax(-1)
        found.append(tuple(logp[torch.arange(len(output)), torch.tensor(output)].tolist()))
    return found
