"""Worker processes that end with their parent."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing import connection, parent_process


def end_with_parent() -> None:
    """Make a worker process end when its parent is killed, instead of waiting for ever.

    Ctrl-C reaches the worker too; its parent is the one to say so.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in `nohup mads annotate … &`
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    parent = parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def wait() -> None:
        connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
