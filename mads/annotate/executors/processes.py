"""Processes on this machine, the default."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import SimpleQueue

from mads.annotate.job import Job, Report, Span
from mads.errors import DataError
from mads.processes import QuietContext, end_with_parent

GRACE_S = 0.5


def processes(job: Job, spans: Sequence[Span], workers: int, report: Report) -> None:
    """Run the spans on so many processes; raises DataError when one of them is killed."""
    context = QuietContext()
    rows: SimpleQueue[int] = context.SimpleQueue()
    with ProcessPoolExecutor(
        min(workers, len(spans)), context, initializer=_start, initargs=(job, rows)
    ) as pool:
        futures: set[Future[None]] = {pool.submit(_run, span) for span in spans}
        try:
            while futures:
                finished, futures = wait(futures, timeout=0.1)
                while not rows.empty():
                    report(rows.get())
                for future in finished:
                    future.result()
        except BrokenProcessPool as error:
            time.sleep(GRACE_S)  # after Ctrl-C, which may reach the workers first, this is not said
            raise DataError(
                "a worker process was killed, most likely for want of RAM. Run the same "
                "command again with --set corpus.workers=1; it goes on where it was."
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_job: Job | None = None
_rows: SimpleQueue[int] | None = None


def _start(job: Job, rows: SimpleQueue[int]) -> None:
    """Prepare a worker process; it ends when its parent is killed."""
    global _job, _rows
    _job, _rows = job, rows
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one process per core is enough
    end_with_parent()


def _run(span: Span) -> None:
    assert _job is not None
    assert _rows is not None
    _job.run(span, _rows.put)
