"""Collective operations of the learner's data-parallel ranks; with a single rank they do nothing."""

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from rl.learner.cores import available_cores

if TYPE_CHECKING:  # the driver passes `Ranks` on and does not import torch
    import torch

_MEETING = timedelta(minutes=30)
"""Longest wait for the other ranks, torch's own default. The process that starts them waits less."""


def open_listener(host: str) -> socket.socket:
    """A socket at a free port of one address of this machine, for rank 0 to listen on."""
    return socket.create_server((host, 0))


def gradients_of(module: "torch.nn.Module") -> "list[torch.Tensor]":
    """Gradients of all trainable parameters; zeros where this rank computed no forest."""
    import torch

    found = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            found.append(parameter.grad)
    return found


def limit_threads(threads: int | None, ranks: int) -> None:
    """Limits torch in this process to so many threads; None: this machine's cores shared by the ranks."""
    import torch

    torch.set_num_threads(threads or max(1, available_cores() // ranks))


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """This process among `world` of them, joined by `init`."""

    rank: int = 0
    world: int = 1

    def init(self, address: str, listener: socket.socket | None = None) -> None:
        """Join the process group; returns when all ranks have joined.

        address: host:port of `listener`, which rank 0 passes. Torch would listen on all interfaces.
        """
        if self.world == 1:
            if listener is not None:
                listener.close()
            return
        import torch
        from torch import distributed

        host, port = address.rsplit(":", 1)
        assert (listener is not None) == (self.rank == 0)
        store = distributed.TCPStore(
            host,
            int(port),
            self.world,
            is_master=self.rank == 0,
            timeout=_MEETING,
            master_listen_fd=None if listener is None else listener.detach(),
        )
        distributed.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo",
            store=store,
            rank=self.rank,
            world_size=self.world,
        )

    def all_reduce_sum(self, tensors: "Iterable[torch.Tensor]") -> None:
        """Sums each tensor over ranks, in place; one message per dtype."""
        if self.world == 1:
            return
        import torch
        from torch import distributed

        kinds: dict[torch.dtype, list[torch.Tensor]] = {}
        for tensor in tensors:
            kinds.setdefault(tensor.dtype, []).append(tensor)
        for members in kinds.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in members])
            distributed.all_reduce(flat)
            parts = flat.split([tensor.numel() for tensor in members])
            for tensor, part in zip(members, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def all_reduce_max(self, value: float) -> float:
        """The largest value of any rank."""
        if self.world == 1:
            return value
        import torch
        from torch import distributed

        tensor = torch.tensor(value)
        distributed.all_reduce(tensor, op=distributed.ReduceOp.MAX)
        return float(tensor)
