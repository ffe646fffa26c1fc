"""Shapes and types of the tensors in a safetensors file, from its header alone, and their comparison."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

SAFETENSORS_DTYPES = {"float32": "F32", "bfloat16": "BF16"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """Shape and safetensors dtype ("F32", "BF16", ...) of one parameter."""

    shape: tuple[int, ...]
    dtype: str


def read_specs(path: Path) -> dict[str, TensorSpec]:
    """Name -> spec of every tensor in a safetensors file; only the header is read.

    Raises SafetensorError when the file is truncated or not safetensors, OSError when it cannot be read.
    """
    specs: dict[str, TensorSpec] = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            tensor = file.get_slice(name)
            specs[name] = TensorSpec(shape=tuple(tensor.get_shape()), dtype=tensor.get_dtype())
    return specs


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata of a safetensors file; only the header is read. Raises the errors of `read_specs`."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def compare_specs(
    found: Mapping[str, TensorSpec], expected: Mapping[str, TensorSpec], serving_dtype: str
) -> str | None:
    """First relevant difference, or None. A tensor may have its expected dtype, `serving_dtype` or float32,
    from which every engine rounds as at its start.
    """
    missing = sorted(expected.keys() - found.keys())
    if missing:
        return f"{len(missing)} parameters are missing, the first is {missing[0]}"
    extra = sorted(found.keys() - expected.keys())
    if extra:
        return f"{len(extra)} parameters are unknown to the model, the first is {extra[0]}"
    for name, spec in expected.items():
        if found[name].shape != spec.shape:
            return f"{name} has shape {found[name].shape}, not {spec.shape}"
        if found[name].dtype not in (spec.dtype, serving_dtype, SAFETENSORS_DTYPES["float32"]):
            return f"{name} has dtype {found[name].dtype}, not {spec.dtype}"
    return None
