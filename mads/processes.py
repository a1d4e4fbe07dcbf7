"""Worker processes that end with their parent and say nothing at Ctrl-C.

Ctrl-C in a terminal reaches the workers too, also while they are still starting, when Python
would print a traceback for each. The parent is the one to say that it was interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, connection, parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from types import FrameType
from typing import Any

from mads.errors import DataError, UsageError
from mads.units import parse_digits

GRACE_S = 0.5
LIFELINE = "MADS_LIFELINE"  # names the end of a pipe whose other end the parent alone holds

# Python's own process that removes what an interrupted one has left takes this from here. It
# removes it all the same, but does not print a warning beside the one line.
sys.warnoptions.append("ignore:resource_tracker")


class _QuietProcess(SpawnProcess):
    """A process that begins with Ctrl-C held back; ``end_with_parent`` lets it through again."""

    def start(self) -> None:
        with _held_back():
            super().start()


class QuietContext(SpawnContext):
    """Starts new Python processes; each must call ``end_with_parent`` when it has begun."""

    Process = _QuietProcess


@contextmanager
def _held_back() -> Iterator[None]:
    """Hold Ctrl-C back in this thread and in the processes that it starts meanwhile.

    Another thread may still receive it; then it is kept for later. Half a started process would
    print that what it was to be told is cut.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept: list[tuple[int, FrameType | None]] = []
    before = signal.getsignal(signal.SIGINT)
    if callable(before):
        signal.signal(signal.SIGINT, lambda number, frame: kept.append((number, frame)))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if callable(before):
            signal.signal(signal.SIGINT, before)
            for number, frame in kept:
                before(number, frame)


def place_of() -> tuple[int, int]:
    """Return this process's rank and the number of processes that train together.

    They are what torchrun puts into the environment; alone it is (0, 1). Raises UsageError for
    numbers that cannot be.
    """
    found = place_in(os.environ)
    if found is None:
        words = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        raise UsageError(
            f"RANK and WORLD_SIZE in the environment: found {words[0]!r} and {words[1]!r}, "
            "expected a rank below the number of processes, as torchrun sets them."
        )
    return found


def place_in(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Return RANK and WORLD_SIZE of an environment, (0, 1) without; None where they cannot be.

    >>> place_in({"RANK": "1", "WORLD_SIZE": "4"}), place_in({"RANK": "4", "WORLD_SIZE": "4"})
    ((1, 4), None)
    """
    rank = parse_digits(environment.get("RANK", "0"))
    size = parse_digits(environment.get("WORLD_SIZE", "1"))
    return None if rank is None or size is None or rank >= size else (rank, size)


def end_with_parent() -> None:
    """Make a worker process end when its parent is killed, instead of waiting for ever.

    Ctrl-C ends it at once.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in `nohup mads annotate … &`
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    _end_after(lambda: connection.wait([sentinel]))


def hold_lifeline() -> None:
    """Make a command that another one has started end with it, also when that one is killed.

    Without the variable ``MADS_LIFELINE`` nobody has started this one in such a way.
    """
    handle = parse_digits(os.environ.pop(LIFELINE, ""))
    if handle is None:
        return

    _end_after(lambda: os.read(handle, 1))  # nobody writes: it returns when the other end closes


def _end_after(wait: Callable[[], object]) -> None:
    """End this process, from a thread beside, once a function returns."""

    def end() -> None:
        wait()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


@contextmanager
def worker_pool(
    workers: int, start: Callable[..., None], arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Provide worker processes that ``start`` prepares; an error here ends them at once.

    Raises DataError when one of them is killed from outside.
    """
    pool = ProcessPoolExecutor(workers, QuietContext(), start, arguments)
    try:
        yield pool
    except BrokenProcessPool as error:
        time.sleep(GRACE_S)  # after Ctrl-C, which may reach the workers first, this is not said
        pool.shutdown(wait=False, cancel_futures=True)
        raise DataError(
            "a worker process was killed, most likely for want of RAM. Run the same "
            "command again with --set corpus.workers=1; it goes on where it was."
        ) from error
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        end_workers()  # whatever they are at would be waited for
        raise
    pool.shutdown()


def end_workers() -> None:
    """End all worker processes of this one. It stands last: who finds it finds all of the file."""
    for worker in active_children():
        worker.kill()
