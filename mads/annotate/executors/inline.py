"""All in this process: for debuggers, notebooks and small corpora."""

from __future__ import annotations

from collections.abc import Sequence

from mads.annotate.job import Job, Report, Span


def inline(job: Job, spans: Sequence[Span], workers: int, report: Report) -> None:
    """Run the spans one after the other; the number of workers does not count."""
    del workers
    for span in spans:
        job.run(span, report)
