"""The entry point: an error that a user can cause is one message, and so is Ctrl-C.

Nothing heavy is imported before signals are taken care of. Exit codes: 0 done, 1 data, 2 usage, 75
stopped by a signal, to be gone on with by the same command, 130 interrupted.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType

INTERRUPTED = 130
WORDS = "mads: interrupted; run the same command to go on."
TERMINATED = 75
FAREWELL = "mads: stopped by signal 15; run the same command to go on."

_interrupts: list[int] = []  # the signals that this process has had


def main() -> None:
    """Run the command line as a process of its own."""
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not under nohup
            signal.signal(signal.SIGINT, _on_interrupt)
            sys.unraisablehook = _on_unraisable
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _on_terminate)
        _leave(run())
    except KeyboardInterrupt:
        _end()


def _leave(code: int) -> None:
    """End the process as Python does, but without the destructors of C++ libraries.

    One of them (pyarrow 26) ends one in some hundred processes by an abort when the machine is
    busy, after all is done.
    """
    # After Ctrl-C a lock may be left as it was, for which a thread would wait for ever.
    for thread in () if _interrupts else threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()  # noqa: SLF001 - there is no public way
    with suppress(OSError, ValueError):  # nobody reads, or it is closed
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    """End the workers and raise KeyboardInterrupt; in the middle of an import, end at once.

    There an exception would leave half a module, be swallowed by what tries imports, or be printed
    by Python's own callbacks.
    """
    _interrupts.append(number)
    _end_workers()
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _end()
        frame = frame.f_back
    raise KeyboardInterrupt


def _on_terminate(number: int, frame: FrameType | None) -> None:
    """End at once, as a batch system expects; whatever is half written is made anew.

    A run that trains takes the signal itself, and saves its work first.
    """
    del number, frame
    _end_workers()
    _end(TERMINATED, FAREWELL)


def _end_workers() -> None:
    """End the worker processes: one that is still starting would print what it misses."""
    module = sys.modules.get("mads.processes")  # perhaps not imported, or half of it
    if module is not None and hasattr(module, "end_workers"):
        module.end_workers()


def _on_unraisable(found: sys.UnraisableHookArgs) -> None:
    """End at once when Ctrl-C came where Python could only have printed it, as in a destructor."""
    if issubclass(found.exc_type, KeyboardInterrupt):
        _end()
    sys.__unraisablehook__(found)


def _end(code: int = INTERRUPTED, words: str = WORDS) -> None:
    if os.environ.get("RANK", "0") != "0":  # the main process of several tells it
        os._exit(code)
    show_cursor = "\x1b[?25h" if os.isatty(2) else ""  # a progress bar has hidden it
    os.write(2, f"{show_cursor}{words}\n".encode())
    os._exit(code)


def run() -> int:
    """Run the command line in this process; return the exit code."""
    try:
        from mads.cli import run_command

        code, message = run_command()
    except KeyboardInterrupt:
        code, message = INTERRUPTED, ""
    except Exception:
        if not _interrupts:
            raise
        code, message = INTERRUPTED, ""
    # Ctrl-C in a library's own code may come out as any other error.
    if code == INTERRUPTED or (code and _interrupts):
        code, message = INTERRUPTED, WORDS
    if message:
        from mads.units import visible

        print(visible(message, keep="\n"), file=sys.stderr)  # noqa: T201 - the one place
    return code


if __name__ == "__main__":
    main()
