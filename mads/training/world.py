"""The processes that train one model together. By default there is one.

Code says what all of them agree on and never who talks to whom: a sum, a flag, a value of the
main process. Parameters may be cut into parts, one on each process, so a norm or a dot product
over parameters is a local float64 sum that is summed once over the world.

torchrun, or whatever else starts the processes, names each one's place in the environment (RANK,
WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT); `mads train` is then one of many.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.distributed.rendezvous import rendezvous

from mads.errors import DataError, MadsError, Unsaid
from mads.processes import place_of

T = TypeVar("T")

STEP_TIMEOUT = timedelta(minutes=5)  # for what all processes do at the same time
MAIN_TIMEOUT = timedelta(hours=6)  # for what the main process does while the others wait
GRACE = timedelta(seconds=5)  # in which the main process says whether it fails too
_FAILED = "mads/failed"
_LOST = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "timed out wait")


@dataclass(frozen=True)
class World:
    """This process's place among ``size``; alone, every exchange gives back what it was given."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process plans, writes files and talks to the user."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    def sum(self, value_K: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of all processes' arrays, which have one shape; the same on each."""
        return value_K

    def total(self, value: float) -> float:
        """Return the sum of all processes' numbers."""
        return float(self.sum(np.array([value], np.float64))[0])

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in at least one process."""
        return self.total(float(flag)) > 0

    def broadcast(self, value: T) -> T:
        """Return the main process's value, which may take hours to come."""
        return value

    def barrier(self) -> None:
        """Wait until all processes are here."""
        self.broadcast(None)
        self.any(False)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Do what may fail on some processes or on all: all go on, or none.

        The first one that fails raises its error, the others raise Unsaid.
        """
        failure: MadsError | None = None
        try:
            yield
        except MadsError as error:
            failure = error
        failed_R = np.zeros(self.size)
        failed_R[self.rank] = failure is not None
        failed_R = self.sum(failed_R)
        if failed_R.any():
            if failure is not None and self.rank == int(np.flatnonzero(failed_R)[0]):
                raise failure
            raise Unsaid(1)


ALONE = World()


@dataclass(frozen=True)
class Many(World):
    """One of several processes, which exchange through ``torch.distributed``.

    Numbers are gathered and summed in the order of ranks, so all processes hold the same bits.
    """

    steps: dist.ProcessGroup | None = None  # for numbers in RAM, whatever carries a GPU's tensors
    waiting: dist.ProcessGroup | None = None  # with a time-out that a plan or a fit cannot reach

    def sum(self, value_K: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of all processes' arrays; see World."""
        own = torch.from_numpy(np.ascontiguousarray(value_K, np.float64))
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own, group=self.steps)
        total: NDArray[np.float64] = np.sum([part.numpy() for part in parts], axis=0)
        return total

    def broadcast(self, value: T) -> T:
        """Return the main process's value; see World."""
        held = [value]
        dist.broadcast_object_list(held, src=0, group=self.waiting, device=torch.device("cpu"))
        return held[0]


@contextmanager
def joined_world() -> Iterator[World]:
    """Yield the world that this process was started in, and leave it at the end.

    Raises DataError when the others cannot be reached, or when one of them is lost meanwhile. What
    the main process raises as well is told by it alone.
    """
    rank, size = place_of()
    if size == 1:
        yield ALONE
        return
    board: Any = None
    try:
        board, _, _ = next(rendezvous("env://", rank, size, timeout=STEP_TIMEOUT))
        yield _join(board, rank, size)
    except Unsaid:
        raise
    except (MadsError, RuntimeError, ValueError) as error:
        told = error if isinstance(error, MadsError) else _lost(error)
        if told is None:
            raise
        if board is not None and _is_told(board, rank):
            raise Unsaid(told.exit_code) from error
        if rank:
            told.args = (f"process {rank} of {size}: {told}",)
        raise told from error
    # After a failure a group would wait for processes that are gone; the system takes it down.
    dist.destroy_process_group()


def _is_told(board: Any, rank: int) -> bool:
    """Tell whether the main process ends with an error too, which then is all that is told."""
    try:
        if rank == 0:
            board.set(_FAILED, "1")
            return False
        board.wait([_FAILED], GRACE)
    except RuntimeError:  # the board is gone, or nothing was put on it
        return False
    return True


def _join(board: Any, rank: int, size: int) -> World:
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, store=board, rank=rank, world_size=size, timeout=STEP_TIMEOUT)
    return present_world()


def present_world() -> World:
    """Return the world of ``torch.distributed``, where somebody has initialised it."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return ALONE
    groups = [dist.new_group(backend="gloo", timeout=t) for t in (STEP_TIMEOUT, MAIN_TIMEOUT)]
    return Many(dist.get_rank(), dist.get_world_size(), *groups)


def _lost(error: Exception) -> DataError | None:
    """Return what to tell when another process is gone; None for any other error."""
    if not is_lost(error):
        return None
    # What has started the processes ends them all now; it would be told a second time.
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return DataError(
        "another process of this run has ended, or cannot be reached. What was saved with the last "
        "checkpoint is whole: start the same processes again to go on."
    )


def is_lost(error: BaseException | None) -> bool:
    """Tell whether an error says that another process is gone, not that this one is wrong.

    It may have come first: what cleans up after it can fail on half-gathered parameters.
    """
    if error is None:
        return False
    text = str(error).lower()
    if isinstance(error, dist.DistError) or any(word in text for word in _LOST):
        return True
    return is_lost(error.__cause__ or error.__context__)
