"""Adapter files: the published weights of a low-rank adapter, without its base.

An adapter file is a safetensors file with two tensors for each adapted layer `<path>`, two for each layer of
which some rows are trained (those of added tags), and these metadata:

    <path>.lora_A.weight        [r, in]     format         braid_adapter
    <path>.lora_B.weight        [out, r]    base           absolute directory of the base's model.safetensors
    <path>.trained_rows.weight  [n, in]     base_checksum  checksum of that file
    <path>.trained_rows.ids     [n] int64   scaling        s

Its weights are base + s B A at `<path>.weight`, the rows `ids` of which are then replaced, and those of the
base everywhere else. The base must fit the model as a weight file must, and must not change while engines
load adapters of it.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rollout.engines.tensor_spec import SAFETENSORS_DTYPES, TensorSpec, compare_specs, read_specs

A = ".lora_A.weight"
B = ".lora_B.weight"
ROWS = ".trained_rows.weight"
ROW_IDS = ".trained_rows.ids"
BASE_FILE = "model.safetensors"
_FORMAT = "braid_adapter"
_KEYS = ("base", "base_checksum", "scaling")


def write_adapter_file(
    path: Path, tensors: Mapping[str, torch.Tensor], *, base: Path, base_checksum: str, scaling: float
) -> None:
    """Write the file. `tensors` as above; `base`: directory whose model.safetensors has `base_checksum`."""
    metadata = {
        "format": _FORMAT,
        "base": str(base.resolve()),
        "base_checksum": base_checksum,
        "scaling": repr(scaling),  # reads back as the same number
    }
    save_file(dict(tensors), str(path), metadata=metadata)


def merge(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scaling: float) -> torch.Tensor:
    """weight [out, in] + scaling * b [out, r] @ a [r, in], in float32."""
    return torch.addmm(weight.float(), b.float(), a.float(), alpha=scaling)


def with_rows(weight: torch.Tensor, rows: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """A float32 copy of weight [V, H] in which the rows `ids` [n] are `rows` [n, H]."""
    return weight.float().index_copy(0, ids, rows.float())


def is_adapter(metadata: Mapping[str, str]) -> bool:
    """Whether a safetensors file with these metadata is an adapter file."""
    return metadata.get("format") == _FORMAT


def find_adapter_problem(
    found: Mapping[str, TensorSpec],
    metadata: Mapping[str, str],
    expected: Mapping[str, TensorSpec],
    serving_dtype: str,
    base_checksum: Callable[[Path], str],
) -> str | None:
    """Why an adapter file with these tensors and metadata must not be loaded, or None; as `find_problem` of
    `rollout.engines.weight_file`.
    """
    return (
        _metadata_problem(metadata)
        or _base_problem(metadata, expected, serving_dtype, base_checksum)
        or _tensor_problem(found, expected)
    )


def read_merged(
    path: Path, metadata: Mapping[str, str], names: Iterable[str]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield base + s B A for adapted layers and the base for the others, one tensor at a time."""
    scaling = float(metadata["scaling"])
    with (
        safe_open(Path(metadata["base"]) / BASE_FILE, framework="pt") as base,
        safe_open(path, framework="pt") as adapter,
    ):
        present = list(adapter.keys())
        adapted = {name.removesuffix(A) for name in present if name.endswith(A)}
        replaced = {name.removesuffix(ROWS) for name in present if name.endswith(ROWS)}
        for name in names:
            weight, layer = base.get_tensor(name), name.removesuffix(".weight")
            if layer in adapted:
                a, b = (adapter.get_tensor(layer + end) for end in (A, B))
                weight = merge(weight, a, b, scaling)
            if layer in replaced:
                rows, ids = (adapter.get_tensor(layer + end) for end in (ROWS, ROW_IDS))
                weight = with_rows(weight, rows, ids)
            yield name, weight


def _metadata_problem(metadata: Mapping[str, str]) -> str | None:
    missing = [key for key in _KEYS if key not in metadata]
    if missing:
        return f"it is an adapter whose metadata lack {', '.join(missing)}"
    try:
        finite = math.isfinite(float(metadata["scaling"]))
    except ValueError:
        finite = False
    if not finite:
        return f"its scaling is {metadata['scaling']!r}, not a number"
    if not Path(metadata["base"]).is_absolute():
        return f"its base {metadata['base']!r} is not an absolute path"
    return None


def _base_problem(
    metadata: Mapping[str, str],
    expected: Mapping[str, TensorSpec],
    serving_dtype: str,
    base_checksum: Callable[[Path], str],
) -> str | None:
    path = Path(metadata["base"]) / BASE_FILE
    try:
        actual = base_checksum(path)
        if actual != metadata["base_checksum"]:
            return f"the checksum of its base {path} is {actual}, not {metadata['base_checksum']}"
        problem = compare_specs(read_specs(path), expected, serving_dtype)
    except OSError as error:
        return f"its base cannot be read ({error})"
    except SafetensorError as error:
        return f"its base {path} is not a valid safetensors file ({error})"
    return None if problem is None else f"in its base {path}: {problem}"


def _tensor_problem(found: Mapping[str, TensorSpec], expected: Mapping[str, TensorSpec]) -> str | None:
    if not found:
        return "it is an adapter without a tensor"
    problem = _rows_problem(found, expected)
    if problem is not None:
        return problem
    layers = set()
    for name, spec in sorted(found.items()):
        if name.endswith((ROWS, ROW_IDS)):
            continue
        layer = name.removesuffix(A if name.endswith(A) else B)
        weight = expected.get(f"{layer}.weight")
        if layer == name or weight is None or len(weight.shape) != 2:
            return f"{name} adapts no matrix of the model"
        if spec.dtype not in SAFETENSORS_DTYPES.values():
            return f"{name} has dtype {spec.dtype}, not {' or '.join(SAFETENSORS_DTYPES.values())}"
        layers.add(layer)
    for layer in sorted(layers):
        absent = next((layer + end for end in (A, B) if layer + end not in found), None)
        if absent is not None:
            return f"{absent} is missing"
        rows, columns = expected[f"{layer}.weight"].shape
        a, b = found[layer + A].shape, found[layer + B].shape
        if len(a) != 2 or a[0] < 1 or a[1] != columns or b != (rows, a[0]):
            return f"{layer} has A {a} and B {b}, whose product is not ({rows}, {columns})"
    return None


def _rows_problem(found: Mapping[str, TensorSpec], expected: Mapping[str, TensorSpec]) -> str | None:
    for name, spec in sorted(found.items()):
        if not name.endswith((ROWS, ROW_IDS)):
            continue
        layer = name.removesuffix(ROWS).removesuffix(ROW_IDS)
        weight, ids, rows = (
            expected.get(f"{layer}.weight"),
            found.get(layer + ROW_IDS),
            found.get(layer + ROWS),
        )
        if weight is None or len(weight.shape) != 2 or ids is None or rows is None:
            return f"{name} replaces no rows of a matrix of the model"
        if name.endswith(ROW_IDS):
            if spec.dtype != "I64":
                return f"{name} has dtype {spec.dtype}, not I64"
        elif spec.dtype not in SAFETENSORS_DTYPES.values():
            return f"{name} has dtype {spec.dtype}, not {' or '.join(SAFETENSORS_DTYPES.values())}"
        if len(ids.shape) != 1 or rows.shape != (ids.shape[0], weight.shape[1]):
            return (
                f"{layer} has rows {rows.shape} for ids {ids.shape}, and a row has {weight.shape[1]} numbers"
            )
    return None
