"""Ray Core, the extra ``mads[ray]``: one task for each span, on whatever machines the cluster has.

The cluster is that of RAY_ADDRESS, or one that is started here. All its machines need the same
mads, and the corpus and the store under the same paths. A task whose process or machine is lost is
begun again by Ray; it finds the shards that it had finished.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from mads.annotate.job import Job, Report, Span
from mads.errors import DataError, MadsError, UsageError

RETRIES = 3  # of a task whose process was lost; an error of the data is not tried again


def on_ray(job: Job, spans: Sequence[Span], workers: int, report: Report) -> None:
    """Run the spans, so many at a time; a span's rows are told when it ends.

    Raises UsageError without Ray, DataError when a task is lost again and again.
    """
    ray = _import_ray()
    begun_here = not ray.is_initialized()
    if begun_here:
        ray.init(log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    try:
        run = ray.remote(max_retries=RETRIES, num_cpus=1)(_run)
        data = ray.put(pickle.dumps(job))
        left, running = list(reversed(spans)), list[Any]()
        while left or running:
            while left and len(running) < workers:
                running.append(run.remote(data, left.pop()))
            done, running = ray.wait(running)
            for task in done:
                report(_rows_of(ray, task))
    finally:
        if begun_here:
            ray.shutdown()


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "corpus.executor is 'ray', but Ray is not installed: pip install 'mads[ray]', or take "
            "'processes'."
        ) from error
    return ray


def _rows_of(ray: Any, task: Any) -> int:
    """Return how many rows a task has done; raises what it raised."""
    try:
        rows: int = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, MadsError):
            raise error.cause from None
        raise
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise DataError(
            f"a Ray task was lost {RETRIES + 1} times, most likely for want of RAM. Run the same "
            "command again with fewer tasks on a machine; it goes on where it was."
        ) from error
    return rows


def _run(data: bytes, span: Span) -> int:
    """Do a span in a process of Ray's; return the number of rows."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one process per core is enough
    rows: list[int] = []
    _opened(data).run(span, rows.append)
    return sum(rows)


@lru_cache(maxsize=1)
def _opened(data: bytes) -> Job:
    """Return the job, whose agents and tokenizer stay open in this process."""
    job: Job = pickle.loads(data)  # noqa: S301 - from the process that asked, not from a file
    return job
