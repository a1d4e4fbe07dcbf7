"""SIGTERM and Ctrl-C: the run stops after its step, with the work saved."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stopping(stop: Callable[[int], None]) -> Iterator[None]:
    """Turn SIGTERM and the first Ctrl-C into a call of ``stop``; a second one ends at once."""

    def handler(number: int, frame: FrameType | None) -> None:
        del frame
        stop(number)
        signal.signal(number, before[number])

    try:
        before = {int(s): signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
        for number in before:
            signal.signal(number, handler)
    except ValueError:  # not in the main thread, where signals do not arrive
        yield
        return
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
