"""A signal asks to stop; a second one ends at once; what was there before is put back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from mads.run.signals import stopping


@pytest.fixture
def before() -> Iterator[object]:
    """What Ctrl-C does; in the background it would be ignored."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, old)


def test_the_first_signal_asks_and_the_second_ends(before: object) -> None:
    asked: list[int] = []
    with stopping(asked.append):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert asked == [signal.SIGTERM, signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_in_another_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def work() -> None:
        with stopping(lambda number: None):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
