"""Runs side by side: each is a `mads train` of its own, some of them at a time.

A signal is passed on, and each run saves its work. When this process is killed, the runs end with
it: each holds one end of a pipe whose other end closes then.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mads.errors import Interrupted
from mads.files import naming
from mads.layout import RunDir
from mads.processes import LIFELINE
from mads.run.records import Metrics
from mads.run.signals import stopping
from mads.types import Report

POLL_S = 0.2
SHOW_S = 1.0
_MARK = "mads: "
_TAIL = 4096  # bytes of a log in which its last message is sought


@dataclass(frozen=True, slots=True)
class TrainJob:
    """A run to be trained or gone on with."""

    name: str  # for people
    recipe: Path
    seed: int
    run: RunDir
    log: Path
    steps: int


@dataclass(frozen=True, slots=True)
class _Running:
    job: TrainJob
    process: subprocess.Popen[bytes]
    log_begin: int  # where the log of this attempt begins


class _Stop:
    """The signal that has come, 0 before one has."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, number: int) -> None:
        self.number = number


def train_all(
    jobs: Sequence[TrainJob], store: Path, generation: int, limit: int, report: Report
) -> dict[str, str]:
    """Train ``limit`` runs at a time; return the last message of each that failed, by its name.

    A run that fails does not keep the others. Raises Interrupted after a signal, when the runs
    have saved their work.
    """
    waiting, failed, stop = deque(jobs), dict[str, str](), _Stop()
    threads = max(1, (os.cpu_count() or 1) // limit)
    ended, told, shown = 0, False, 0.0
    with _crew() as (running, handle), stopping(stop):
        while running or (waiting and not stop.number):
            while waiting and len(running) < limit and not stop.number:
                running.append(_started(waiting.popleft(), store, generation, threads, handle))
            if stop.number and not told:
                told = True
                for one in running:
                    one.process.send_signal(stop.number)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                ended += one.process.returncode == 0
                if one.process.returncode:
                    failed[one.job.name] = _last_message(one)
                else:
                    report(one.job.name, one.job.steps, one.job.steps)
            if time.monotonic() - shown >= SHOW_S:
                shown = time.monotonic()
                for one in running:
                    report(one.job.name, Metrics(one.job.run.metrics).steps_done(), one.job.steps)
            time.sleep(POLL_S if running else 0)
    if stop.number and ended < len(jobs):
        raise Interrupted(
            f"stopped by signal {stop.number}; {ended} of {len(jobs)} runs have ended, the work of "
            "the others is saved. Run the same command to go on."
        )
    return failed


@contextmanager
def _crew() -> Iterator[tuple[list[_Running], int]]:
    """Yield a list for running processes, and what they hold on to; all end with the block."""
    running: list[_Running] = []
    theirs, ours = os.pipe()
    try:
        yield running, theirs
    finally:
        for one in running:  # none is left but after an error or a second Ctrl-C
            one.process.kill()
            one.process.wait()
        os.close(theirs)
        os.close(ours)


def _started(job: TrainJob, store: Path, generation: int, threads: int, handle: int) -> _Running:
    command = [
        *(sys.executable, "-m", "mads", "train", "--json"),
        *("--store", str(store), "--generation", str(generation), "--out", str(job.run.root)),
        *("--recipe", str(job.recipe), "--set", f"seed={job.seed}"),
    ]
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with naming(job.log), job.log.open("ab") as log:
        begin = log.tell()
        process = subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), LIFELINE: str(handle)},
            pass_fds=(handle,),
            start_new_session=True,  # so that Ctrl-C comes from here alone, and once
        )
        return _Running(job, process, begin)


def _last_message(one: _Running) -> str:
    """Return what a run that failed has said at last, and where the rest stands."""
    with one.job.log.open("rb") as handle:
        handle.seek(max(handle.seek(0, os.SEEK_END) - _TAIL, one.log_begin))
        text = handle.read().decode("utf-8", "replace").strip()
    begin = f"\n{text}".rfind(f"\n{_MARK}")
    message = text[begin:].removeprefix(_MARK) if begin >= 0 else text.rpartition("\n")[2]
    code = one.process.returncode
    if code < 0:
        message = f"killed by signal {-code}"
    return f"{message or f'exit code {code}, without a word'} (all of it: {one.job.log})"
