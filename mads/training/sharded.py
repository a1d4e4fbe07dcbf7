"""A model cut into parts, one on each process of a world (FSDP2).

    3 processes, a weight of 8 rows:  rows 0 to 2 | rows 3 to 5 | rows 6 and 7

Each block's parameters are put together when the block is called and dropped after it; gradients
are summed over the processes, not averaged, since losses are divided by the labels of the whole
batch. What AdamW and the rewards change is this process's own part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard

T = TypeVar("T")


class Entry(nn.Module):
    """The one way into a cut model: calls a function of it while its parameters are whole.

    Decoder and head are called apart, which a model's own ``forward`` would not see.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, call: Callable[..., T], *arguments: object) -> T:
        """Return what ``call`` returns."""
        return call(*arguments)


def cut(model: nn.Module, blocks: Sequence[nn.Module], device: torch.device, size: int) -> Entry:
    """Cut a model, which is whole and the same on every process, into ``size`` parts."""
    mesh = init_device_mesh(device.type, (size,))
    entry = Entry(model)
    # The root too is cut again after each forward: what it holds would else be out of date when
    # its parts were changed without a backward pass, as rewards do.
    for part in (*blocks, entry):
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
    for part in entry.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)  # gloo knows no average
    return entry


def own_part(value: Tensor) -> Tensor:
    """Return this process's part of a value that may be cut; it shares the value's storage."""
    found = value.detach()
    return found.to_local() if isinstance(found, DTensor) else found


def part_of(whole: Tensor, like: Tensor) -> Tensor:
    """Return this process's part of a whole value, which is to be cut as ``like`` is."""
    if not isinstance(like, DTensor):
        return whole
    mesh: DeviceMesh = like.device_mesh
    rows = whole.chunk(mesh.size(), dim=0)
    rank = mesh.get_local_rank()
    return rows[rank] if rank < len(rows) else whole[:0]


def whole_of(part: Tensor, like: Tensor) -> Tensor:
    """Return the whole value from all processes' parts; every process calls it."""
    if not isinstance(like, DTensor):
        return part
    shape, stride = like.shape, like.stride()
    placed = DTensor.from_local(
        part, like.device_mesh, [Shard(0)], run_check=False, shape=shape, stride=stride
    )
    return placed.full_tensor()
