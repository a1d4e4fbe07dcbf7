"""Executors: who runs a job's spans of shards, in any order and on any number of processes.

An executor is one file here and one entry of ``EXECUTORS``: it runs every span to its end, tells
rows as they are done, and raises the first error. Nothing else of it can be seen in a store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mads.annotate.executors.inline import inline
from mads.annotate.executors.on_ray import on_ray
from mads.annotate.executors.processes import processes
from mads.annotate.job import Job, Report, Span

Executor = Callable[[Job, Sequence[Span], int, Report], None]
"""Called with the job, its spans, the number of workers, and whom to tell rows."""

EXECUTORS: dict[str, Executor] = {"inline": inline, "processes": processes, "ray": on_ray}
