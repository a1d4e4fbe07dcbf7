"""Several processes that train together, started without torchrun: three times as fast."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
LONG = 300  # seconds, after which something hangs


@dataclass(frozen=True)
class Ended:
    """How one process ended."""

    code: int
    out: str
    err: str


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start(size: int, *arguments: object) -> list[subprocess.Popen[str]]:
    """Start ``python ARGUMENTS`` in ``size`` processes that know of each other."""
    shared = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    command = [sys.executable, *map(str, arguments)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return [
        subprocess.Popen(
            command,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            text=True,
            **pipes,  # type: ignore[call-overload]
        )
        for rank in range(size)
    ]


def ended(processes: list[subprocess.Popen[str]]) -> list[Ended]:
    """Wait for processes, and end those that hang."""
    try:
        texts = [process.communicate(timeout=LONG) for process in processes]
    finally:
        for process in processes:
            process.kill()
    both = zip(processes, texts, strict=True)
    return [Ended(process.returncode, out, err) for process, (out, err) in both]


def wait_for(path: Path) -> None:
    """Wait until a file is there."""
    until = time.monotonic() + LONG
    while not path.exists():
        assert time.monotonic() < until, f"{path} does not come"
        time.sleep(0.05)
