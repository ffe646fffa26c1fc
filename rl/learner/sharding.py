"""Weights, gradients and moments spread over the learner's ranks by PyTorch's FSDP2, and made whole again.

Every rank has to take part in every pass: layers are gathered as they are needed.
"""

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from rl.learner.collectives import Ranks


def shard(module: torch.nn.Module, layers: torch.nn.ModuleList, ranks: Ranks, device: torch.device) -> None:
    """In place; each of `layers` is gathered by itself, what is left of `module` with its own call. Gradients
    become means over ranks.
    """
    mesh = init_device_mesh(device.type, (ranks.world,))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor that may be spread over ranks; all of them have to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def spread_like(tensor: torch.Tensor, example: torch.Tensor) -> torch.Tensor:
    """A whole tensor, spread as `example` is."""
    if not isinstance(example, DTensor):
        return tensor
    return distribute_tensor(tensor.to(example.device), example.device_mesh, example.placements)
