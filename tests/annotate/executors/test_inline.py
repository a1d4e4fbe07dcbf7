"""Spans in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest

from mads.annotate.executors.inline import inline
from mads.annotate.job import Job


@dataclass
class Spans:
    """A job that notes its spans and tells one row for each shard; one of them may fail."""

    fails: int | None = None
    ran: list[tuple[Sequence[int], int]] = field(default_factory=list)

    def run(self, span: Sequence[int], report: Callable[[int], None]) -> None:
        self.ran.append((span, os.getpid()))
        for shard in span:
            if shard == self.fails:
                raise ZeroDivisionError
            report(shard)


def test_spans_are_done_in_their_order_and_in_this_process() -> None:
    job, told = Spans(), list[int]()
    inline(cast("Job", job), [(4, 5), (0,), (2, 3)], 7, told.append)
    assert job.ran == [((4, 5), os.getpid()), ((0,), os.getpid()), ((2, 3), os.getpid())]
    assert told == [4, 5, 0, 2, 3]


def test_no_span_is_no_work() -> None:
    job, told = Spans(), list[int]()
    inline(cast("Job", job), [], 1, told.append)
    assert (job.ran, told) == ([], [])


def test_the_first_error_ends_it() -> None:
    job, told = Spans(fails=0), list[int]()
    with pytest.raises(ZeroDivisionError):
        inline(cast("Job", job), [(4, 5), (0,), (2, 3)], 1, told.append)
    assert [span for span, _ in job.ran] == [(4, 5), (0,)]
    assert told == [4, 5]
