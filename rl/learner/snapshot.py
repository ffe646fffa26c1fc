"""Copy of the learner's state, which another thread writes while training continues.

A checkpoint's files hold whole tensors, so a checkpoint of any number of ranks, sharded or not, loads into
any other number:
    model.safetensors, *.json    Hugging Face model, adapters merged
    optimizer.safetensors        moments, and the number of updates
    critic.safetensors           critic's weights and moments (with a critic)
    implicit.safetensors         adapters and moments of an implicit reward model (with one)
    adapter.safetensors          adapters alone (with LoRA): merged weights cannot be split exactly
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from rl.learner.finite import ensure_finite

MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Names of the safetensors format."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A learner's state in host memory; training does not change it any more."""

    tensors: Mapping[str, Mapping[str, torch.Tensor]]
    """Tensors by name, by name of the file."""
    texts: Mapping[str, bytes]
    """Contents of the other files by file name: the model's configuration."""

    @classmethod
    def of(cls, model: Any, tensors: Mapping[str, Mapping[str, torch.Tensor]]) -> Self:
        """Copies `tensors` (by name of the file) and the configuration of a Hugging Face model."""
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder, state_dict={})
            texts = {path.name: path.read_bytes() for path in Path(folder).glob("*.json")}
        copies = {
            name: {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in members.items()}
            for name, members in tensors.items()
        }
        return cls(tensors=copies, texts=texts)

    def write(self, directory: Path) -> None:
        """Writes all files into an existing directory. Raises NonFiniteError before any tensor is written
        that holds NaN or infinity.
        """
        for name, tensors in self.tensors.items():
            ensure_finite(tensors, str(directory / name))
        for name, text in self.texts.items():
            (directory / name).write_bytes(text)
        for name, tensors in self.tensors.items():
            write_tensors(directory / name, tensors)


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes a safetensors file of contiguous host tensors.

    The library's own `save_file` holds Python's global lock while it writes, which would stop the training
    thread; the writes here release it. The bytes are the same.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.numel() * tensor.element_size()
        shape = list(tensor.shape)
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": shape, "data_offsets": [start, end]}
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for _, tensor in ordered:
            file.write(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
