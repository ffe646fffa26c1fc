"""Sharding of weights, gradients and moments over the learner's ranks by PyTorch's FSDP2, and gathering them.

Every rank has to take part in every pass: layers are gathered when they are needed.
"""

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from rl.learner.collectives import Ranks


def shard(module: torch.nn.Module, layers: torch.nn.ModuleList, ranks: Ranks, device: torch.device) -> None:
    """Shard in place; each of `layers` is gathered by itself, the rest of `module` with its own call.
    Gradients become means over ranks.
    """
    mesh = init_device_mesh(device.type, (ranks.world,))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a tensor that may be sharded; all ranks have to call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def spread_like(tensor: torch.Tensor, example: torch.Tensor) -> torch.Tensor:
    """A whole tensor, sharded like `example`."""
    if not isinstance(example, DTensor):
        return tensor
    return distribute_tensor(tensor.to(example.device), example.device_mesh, example.placements)
