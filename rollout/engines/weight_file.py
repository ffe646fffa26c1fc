"""Checks of a published weight file, made before any serving weight is changed.

A weight file is one safetensors file with the names, shapes and dtypes of the model directory the engine
started from, or an adapter file (`rollout.engines.adapter_file`), which stands for one. It is written once,
under a name never used again, and not changed while an engine may read it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from data.checksum import file_checksum
from data.errors import ConfigError
from rollout.engines.adapter_file import find_adapter_problem, is_adapter, read_merged
from rollout.engines.tensor_spec import TensorSpec, compare_specs, read_metadata, read_specs


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
    path: Path,
    checksum: str,
    expected: Mapping[str, TensorSpec],
    serving_dtype: str,
    base_checksum: Callable[[Path], str] = file_checksum,
) -> str | None:
    """Reason why a file must not be loaded, or None. `expected`: specs that the engine started from; a tensor
    may have that dtype or the one the engine serves in (`serving_dtype`, a safetensors name), to which it is
    then cast as at start. `base_checksum` returns the checksum of an adapter's base.
    """
    try:
        actual = file_checksum(path)
        if actual != checksum:
            return f"its checksum is {actual}, not {checksum}: written in part, or another file"
        found, metadata = read_specs(path), read_metadata(path)
    except OSError as error:
        return f"it cannot be read ({error})"
    except SafetensorError as error:
        return f"it is not a valid safetensors file ({error})"
    if is_adapter(metadata):
        return find_adapter_problem(found, metadata, expected, serving_dtype, base_checksum)
    return compare_specs(found, expected, serving_dtype)


def read_weights(path: Path, names: Iterable[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """The model's tensors by name, from a file in which `find_problem` found none.

    safe_open maps files: tensors are read one by one as they are copied, never a second model in memory.
    """
    metadata = read_metadata(path)
    if is_adapter(metadata):
        yield from read_merged(path, metadata, names)
        return
    with safe_open(path, framework="pt") as file:
        for name in names:
            yield name, file.get_tensor(name)
