"""A safetensors file in another number format, without torch and one tensor at a time."""

import json
from pathlib import Path
from typing import Any

import numpy as np

_Numbers = np.ndarray[Any, Any]
NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""Name in a config.json -> name in a safetensors file."""


def to_bfloat16(numbers: _Numbers) -> _Numbers:
    """float32 -> bits of the nearest bfloat16 as uint16; ties to even, as torch and engines round.

    Example: 1.00390625 (0x3F808000, half way) -> 0x3F80; 1.01171875 (0x3F818000, half way) -> 0x3F82. Finite
    numbers only.
    """
    bits = numbers.astype(np.float32, copy=False).view(np.uint32)
    rounded: _Numbers = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return rounded


def wanted_format(config: dict[str, Any]) -> str | None:
    """safetensors' name of the format that a config.json names; None when it names none that we write."""
    return NAMES.get(str(config.get("dtype") or config.get("torch_dtype")).removeprefix("torch."))


def needs_rounding(path: Path, wanted: str | None) -> bool:
    """Whether a file holds float32 tensors that its configuration wants in half the size."""
    return wanted in ("BF16", "F16") and any(entry["dtype"] == "F32" for entry in _header(path)[0].values())


def write_rounded(source: Path, target: Path, wanted: str) -> None:
    """Copy a safetensors file with float32 tensors rounded to `wanted` ("BF16" or "F16")."""
    entries, first = _header(source)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end, order = 0, sorted(entries, key=lambda name: entries[name]["data_offsets"][0])
    for name in order:
        entry = entries[name]
        start, stop = entry["data_offsets"]
        size = (stop - start) // (2 if entry["dtype"] == "F32" else 1)
        dtype = wanted if entry["dtype"] == "F32" else entry["dtype"]
        header[name] = {"dtype": dtype, "shape": entry["shape"], "data_offsets": [end, end + size]}
        end += size
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    content = np.memmap(source, mode="r")
    with target.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name in order:
            start, stop = (first + offset for offset in entries[name]["data_offsets"])
            numbers: _Numbers = content[start:stop]
            if entries[name]["dtype"] == "F32":
                plain = numbers.view(np.float32)
                numbers = to_bfloat16(plain) if wanted == "BF16" else plain.astype(np.float16)
            file.write(numbers.tobytes())


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """-> (entry of each tensor by name, offset of the first byte of the numbers)."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    return entries, 8 + length
