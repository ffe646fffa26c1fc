"""Sharding of weights, gradients and moments over the learner's ranks by PyTorch's FSDP2, and gathering them.

Every rank has to take part in every pass: layers are gathered when they are needed.
"""

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from rl.learner.collectives import Ranks


def shard(
    module: torch.nn.Module,
    layers: torch.nn.ModuleList,
    ranks: Ranks,
    device: torch.device,
    *,
    bfloat16: bool = False,
) -> None:
    """Shard in place; each of `layers` is gathered by itself, the rest of `module` with its own call.
    Gradients become means over ranks. `bfloat16`: float32 shards are gathered rounded, gradients summed in
    float32.
    """
    mesh = init_device_mesh(device.type, (ranks.world,))
    policy = MixedPrecisionPolicy()
    if bfloat16:
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    for layer in layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh, mp_policy=policy)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a tensor that may be sharded; all ranks have to call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def spread_like(tensor: torch.Tensor, example: torch.Tensor) -> torch.Tensor:
    """A whole tensor, sharded like `example`."""
    if not isinstance(example, DTensor):
        return tensor
    return distribute_tensor(tensor.to(example.device), example.device_mesh, example.placements)
