"""Workers end with their parent, and a Ctrl-C that comes while they start is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import active_children
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from mads.errors import DataError
from mads.processes import (
    LIFELINE,
    QuietContext,
    end_with_parent,
    end_workers,
    hold_lifeline,
    worker_pool,
)

PARENT = """
import os, signal, sys, time
from mads.processes import QuietContext, end_with_parent
def work():
    end_with_parent()
    time.sleep(600)
if __name__ == "__main__":
    worker = QuietContext().Process(target=work)
    worker.start()
    print(worker.pid, flush=True)
    time.sleep(600)
"""


def gone(pid: int) -> bool:
    """Wait for a process to end."""
    for _ in range(1000):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):  # it ended before, or while it was read
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_a_pool_works_and_its_workers_can_be_ended() -> None:
    with worker_pool(2, end_with_parent) as pool:
        assert list(pool.map(abs, [-1, -2, -3])) == [1, 2, 3]
    worker = QuietContext().Process(target=time.sleep, args=(600,))
    worker.start()
    end_workers()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL


def test_an_error_beside_a_pool_does_not_wait_for_its_work() -> None:
    pids: list[int] = []

    def fail() -> None:
        with worker_pool(2, end_with_parent) as pool:
            _ = [pool.submit(time.sleep, 10**6) for _ in range(5)]
            pids.extend(worker.pid or 0 for worker in active_children())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(pids) == 2
    assert all(map(gone, pids))


def test_a_killed_worker_of_a_pool_is_told() -> None:
    message = r"a worker process was killed, .* Run the same command again with --set"
    with pytest.raises(DataError, match=message), worker_pool(1, end_with_parent) as pool:
        pool.submit(os._exit, 9).result()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_ends_when_its_parent_is_killed(tmp_path: Path, number: int) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(number)
    assert gone(pid)


def test_ctrl_c_while_a_worker_starts_comes_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the start is left out, and the worker begins with Ctrl-C held back."""
    seen: list[str] = []
    start = SpawnProcess.start

    def interrupted(self: SpawnProcess) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        seen.append("begun")
        start(self)
        seen.append("started")

    monkeypatch.setattr(SpawnProcess, "start", interrupted)
    before = signal.signal(signal.SIGINT, lambda *_: seen.append("Ctrl-C"))
    try:
        worker = QuietContext().Process(target=time.sleep, args=(600,))
        worker.start()
        assert seen == ["begun", "started", "Ctrl-C"]
        blocked = Path(f"/proc/{worker.pid}/status").read_text().split("SigBlk:")[1].split()[0]
        assert int(blocked, 16) >> (signal.SIGINT - 1) & 1
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.signal(signal.SIGINT, before)
        end_workers()


def test_a_command_that_another_has_started_ends_with_it() -> None:
    """It holds the reading end of a pipe; the other end closes when the parent is killed."""
    code = "import time; from mads.processes import hold_lifeline; hold_lifeline(); time.sleep(600)"
    theirs, ours = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, LIFELINE: str(theirs)},
        pass_fds=(theirs,),
    )
    os.close(theirs)
    time.sleep(0.1)
    assert process.poll() is None
    os.close(ours)
    assert process.wait() == 1


def test_a_command_of_the_user_holds_no_lifeline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LIFELINE, raising=False)
    before = threading.active_count()
    hold_lifeline()
    assert threading.active_count() == before
