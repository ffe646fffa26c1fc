"""What a published weight file must look like, checked before any serving weight is touched.

A weight file is one safetensors file with the names, shapes and dtypes of the model directory the engine
started from. It is written once, under a name never used again, and not changed while an engine may read it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from data.checksum import file_checksum
from data.errors import ConfigError

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


def read_model_specs(model_dir: Path) -> dict[str, TensorSpec]:
    """Specs of a model directory, shards together. Raises ConfigError when it has no usable safetensors."""
    files = sorted(model_dir.glob("*.safetensors"))
    if not files:
        raise ConfigError(f"{model_dir}: no .safetensors file; export the model with save_pretrained")
    specs: dict[str, TensorSpec] = {}
    for file in files:
        try:
            specs.update(read_specs(file))
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"{file}: not readable safetensors ({error}); save the model again") from error
    return specs


def find_problem(
    path: Path, checksum: str, expected: Mapping[str, TensorSpec], serving_dtype: str
) -> str | None:
    """Why this file must not be loaded, or None when it may.

    `expected` is what the engine started from; a tensor may have that dtype or the one the engine serves in
    (`serving_dtype`, a safetensors name), to which it is then cast as at start.
    """
    try:
        actual = file_checksum(path)
        if actual != checksum:
            return f"its checksum is {actual}, not {checksum}: written in part, or another file"
        found = read_specs(path)
    except OSError as error:
        return f"it cannot be read ({error})"
    except SafetensorError as error:
        return f"it is not a valid safetensors file ({error})"
    return _compare(found, expected, serving_dtype)


def _compare(
    found: Mapping[str, TensorSpec], expected: Mapping[str, TensorSpec], serving_dtype: str
) -> str | None:
    missing = sorted(expected.keys() - found.keys())
    if missing:
        return f"{len(missing)} parameters are missing, the first is {missing[0]}"
    extra = sorted(found.keys() - expected.keys())
    if extra:
        return f"{len(extra)} parameters are unknown to the model, the first is {extra[0]}"
    for name, spec in expected.items():
        if found[name].shape != spec.shape:
            return f"{name} has shape {found[name].shape}, not {spec.shape}"
        if found[name].dtype not in (spec.dtype, serving_dtype):
            return f"{name} has dtype {found[name].dtype}, not {spec.dtype}"
    return None
