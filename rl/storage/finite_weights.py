"""Finds NaN and infinity in a safetensors file, without torch and without loading the file.

A number is NaN or infinite when all bits of its exponent are set, which bfloat16 shares with the formats that
numpy knows; so every format is compared as whole numbers.
"""

import json
from pathlib import Path

import numpy as np

_EXPONENTS = {
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
    "F32": (np.uint32, 0x7F80_0000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
}
"""safetensors' name of a type -> (integer type of its size, mask of the exponent bits)."""
_CHUNK = 1 << 24
"""Numbers compared at once."""


def non_finite_tensors(path: Path) -> list[str]:
    """Names of the tensors that hold NaN or infinity, sorted; integers and 8-bit floats are not read.

    Raises OSError or ValueError when the file is not a safetensors file.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    content = np.memmap(path, mode="r")
    found = []
    for name, tensor in header.items():
        if name == "__metadata__" or tensor["dtype"] not in _EXPONENTS:
            continue
        kind, exponent = _EXPONENTS[tensor["dtype"]]
        start, stop = (8 + length + offset for offset in tensor["data_offsets"])
        # A view of bytes need not be aligned for numpy to compare it.
        numbers = content[start:stop].view(kind)
        mask = kind(exponent)
        if any(
            bool(((numbers[first : first + _CHUNK] & mask) == mask).any())
            for first in range(0, len(numbers), _CHUNK)
        ):
            found.append(name)
    return sorted(found)
