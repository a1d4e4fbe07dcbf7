"""Processes on this machine, the default."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, wait
from multiprocessing.queues import SimpleQueue

from mads.annotate.job import Job, Report, Span
from mads.processes import QuietContext, end_with_parent, worker_pool


def processes(job: Job, spans: Sequence[Span], workers: int, report: Report) -> None:
    """Run the spans on so many processes; raises DataError when one of them is killed."""
    rows: SimpleQueue[int] = QuietContext().SimpleQueue()
    numbers: SimpleQueue[int] = QuietContext().SimpleQueue()
    for number in range(workers):
        numbers.put(number)
    with worker_pool(min(workers, len(spans)), _start, (job, rows, numbers)) as pool:
        futures: set[Future[None]] = {pool.submit(_run, span) for span in spans}
        while futures:
            finished, futures = wait(futures, timeout=0.1)
            while not rows.empty():
                report(rows.get())
            for future in finished:
                future.result()


_job: Job | None = None
_rows: SimpleQueue[int] | None = None


def _start(job: Job, rows: SimpleQueue[int], numbers: SimpleQueue[int]) -> None:
    """Prepare a worker process; it ends when its parent is killed, and sees one GPU at most."""
    global _job, _rows
    _job, _rows = job, rows
    if job.devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = job.devices[numbers.get() % len(job.devices)]
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one process per core is enough
    end_with_parent()


def _run(span: Span) -> None:
    assert _job is not None
    assert _rows is not None
    _job.run(span, _rows.put)
