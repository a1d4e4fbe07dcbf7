"""Spans in processes of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from mads.annotate.executors.processes import processes
from mads.annotate.job import Job
from mads.errors import DataError


@dataclass
class Notes:
    """A job that leaves a file for each shard, with the process that did it."""

    folder: Path
    fails: int | None = None
    dies: int | None = None
    devices: tuple[str, ...] = ()

    def run(self, span: Sequence[int], report: Callable[[int], None]) -> None:
        for shard in span:
            if shard == self.dies:
                os.kill(os.getpid(), signal.SIGKILL)
            if shard == self.fails:
                raise DataError(f"shard {shard} is damaged.")
            (self.folder / str(shard)).write_text(f"{os.getpid()}")
            report(10 + shard)


def test_every_span_is_done_in_another_process_and_every_row_told(tmp_path: Path) -> None:
    told: list[int] = []
    processes(cast("Job", Notes(tmp_path)), [(0, 1), (2,), (3, 4)], 2, told.append)
    done = {int(path.name): int(path.read_text()) for path in tmp_path.iterdir()}
    assert sorted(done) == [0, 1, 2, 3, 4]
    assert sorted(told) == [10, 11, 12, 13, 14]
    assert os.getpid() not in done.values()
    assert len(set(done.values())) <= 2
    assert (done[0], done[3]) == (done[1], done[4])  # a span stays with its process


def test_an_error_of_a_worker_is_raised_here(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^shard 2 is damaged\.$"):
        processes(cast("Job", Notes(tmp_path, fails=2)), [(1, 2, 3)], 4, lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_a_worker_that_is_killed_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a worker process was killed, most likely for want of RAM"):
        processes(cast("Job", Notes(tmp_path, dies=1)), [(0, 1)], 1, lambda _: None)
