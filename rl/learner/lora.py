"""Low-rank adapters inside a Hugging Face model, through peft: only they are trained and published, with the
rows of tags that the run added, which nobody has trained before.

The model keeps its class and its forward pass. Names are those of a plain checkpoint: the adapter of
`<path>.weight` is `<path>.lora_A.weight` and `<path>.lora_B.weight`, its rows `<path>.trained_rows.weight`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from data.errors import ConfigError
from rl.config.lora import Lora
from rl.learner.model import publishable_weights
from rl.learner.trained_rows import add_trained_rows, layers_with_rows
from rollout.engines.adapter_file import ROW_IDS, ROWS, A, B, merge, with_rows

ADAPTER_FILE = "adapter.safetensors"
"""File of the adapters in a checkpoint: the merged weights cannot be split again bit for bit."""
_NAME = "default"


def add_adapters(model: Any, config: Lora, *, seed: int, tag_ids: Sequence[int] = ()) -> None:
    """Freeze the model but for the rows `tag_ids` of embedding and output layer, and put an adapter beside
    each target, in place. Its output does not change at first: B is zero, A uniform in ±1/sqrt(in), the same
    for the same seed.

    Raises ConfigError when a target matches no linear layer.
    """
    from peft import LoraConfig, inject_adapter_in_model

    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=0.0,
        bias="none",
        target_modules=_matches(model, config),
    )
    with torch.random.fork_rng(devices=[]):  # peft draws A too, from the global generator
        inject_adapter_in_model(settings, model, adapter_name=_NAME)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, a, b, _ in _adapters(model):
            a.data, b.data = a.data.float(), b.data.float()  # peft takes the format of the frozen layer
            a.copy_((2 * torch.rand(a.shape, generator=generator) - 1) * a.shape[1] ** -0.5)
            b.zero_()
    add_trained_rows(model, tag_ids)


def adapter_tensors(model: Any) -> dict[str, torch.Tensor]:
    """All that is trained, on the CPU: `<path>.lora_A.weight` [r, in] and `<path>.lora_B.weight` [out, r] of
    every adapter, `<path>.trained_rows.weight` [n, H] and `.ids` [n] of added tags.
    """
    found = {}
    for path, rows in layers_with_rows(model):
        found[path + ROWS] = rows.weight.detach().to("cpu").contiguous()
        found[path + ROW_IDS] = rows.ids.to("cpu").contiguous()
    for path, a, b, _ in _adapters(model):
        found[path + A] = a.detach().to("cpu").contiguous()
        found[path + B] = b.detach().to("cpu").contiguous()
    return found


def merged_weights(model: Any) -> dict[str, torch.Tensor]:
    """`rl.learner.model.publishable_weights` of the plain model that computes the same: adapters are
    added to the weights, by the same sum as in an engine, and trained rows are put into theirs.
    """
    adapters = {path: (a.detach().cpu(), b.detach().cpu(), s) for path, a, b, s in _adapters(model)}
    replaced = {path: (rows.weight.detach().cpu(), rows.ids.cpu()) for path, rows in layers_with_rows(model)}
    merged = {}
    for name, tensor in publishable_weights(model).items():
        if ".lora_A." in name or ".lora_B." in name or name.endswith(ROWS):
            continue
        plain = name.replace(".base_layer.", ".")
        path = plain.removesuffix(".weight")
        merged[plain] = merge(tensor, *adapters[path]) if path in adapters else tensor
        if path in replaced:
            merged[plain] = with_rows(merged[plain], *replaced[path])
    return merged


@contextmanager
def merged_layers(model: Any) -> Iterator[None]:
    """Within it, every layer with an adapter is one product by the merged weight, as in an engine."""

    def product(layer: Any, inputs: torch.Tensor) -> torch.Tensor:
        base, a, b = layer.base_layer, layer.lora_A[_NAME].weight, layer.lora_B[_NAME].weight
        weight = merge(base.weight, a, b, layer.scaling[_NAME])
        return torch.nn.functional.linear(inputs, weight, base.bias)

    with _computed_by(model, product):
        yield


@contextmanager
def plain_layers(model: Any) -> Iterator[None]:
    """Within it, every layer with an adapter computes without it: the model is the one that it began as."""

    def product(layer: Any, inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = layer.base_layer(inputs)
        return found

    with _computed_by(model, product):
        yield


@contextmanager
def _computed_by(model: Any, product: Callable[[Any, torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Within it, `product`, of layer and inputs, is the forward pass of every layer with an adapter."""
    from peft.tuners.lora import LoraLayer

    layers = [module for _, module in model.named_modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        layer.forward = partial(product, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


@torch.no_grad()
def load_adapters(model: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    """Inverse of `adapter_tensors`, bit for bit.

    Raises ConfigError when the tensors do not match the model's adapters.
    """
    own = {}
    for path, a, b, _ in _adapters(model):
        own[path + A], own[path + B] = a, b
    for path, rows in layers_with_rows(model):
        own[path + ROWS], own[path + ROW_IDS] = rows.weight, rows.ids
    wrong = sorted(own.keys() ^ tensors.keys()) or sorted(
        name
        for name, mine in own.items()
        if mine.shape != tensors[name].shape
        or (name.endswith(ROW_IDS) and not torch.equal(mine.cpu(), tensors[name]))
    )
    if wrong:
        raise ConfigError(
            f"{len(wrong)} saved adapter weights do not match this model, the first is {wrong[0]}; "
            "lora.rank, lora.targets and the added tags must be what they were when it was saved"
        )
    for name, parameter in own.items():
        parameter.copy_(tensors[name])


def _adapters(model: Any) -> Iterator[tuple[str, torch.Tensor, torch.Tensor, float]]:
    """(path of the layer, A [r, in], B [out, r], alpha / r), in the model's order."""
    from peft.tuners.lora import LoraLayer

    for path, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield path, module.lora_A[_NAME].weight, module.lora_B[_NAME].weight, module.scaling[_NAME]


def linear_layers(model: Any) -> list[str]:
    """Paths of the linear layers that can have an adapter. `rl.learner.logprobs` reads the output layer's
    weight itself and would not see its adapter, so that layer is none of them; nor is a reward model's head,
    which is trained whole.
    """
    outputs = (model.get_output_embeddings(), getattr(model, "score", None))
    return [
        path
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and all(module is not output for output in outputs)
    ]


def _matches(model: Any, lora: Lora) -> list[str]:
    paths = linear_layers(model)
    if unmatched := lora.unmatched(paths):
        names = sorted({path.rsplit(".", 1)[-1] for path in paths})
        raise ConfigError(
            f"lora.targets: {', '.join(unmatched)}: the model has no such linear layer; "
            f"choose from {', '.join(names)}"
        )
    return lora.layers(paths)
