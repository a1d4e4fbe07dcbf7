"""Buckets: how cells are assigned, how a bucket is sorted, how far a killed call had come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mads.store.buckets import (
    RECORD,
    Buckets,
    Counts,
    assign_buckets,
    bucket_rows,
    sort_order,
    sorted_tables,
)


def test_a_large_cell_is_spread_over_buckets_and_small_ones_share() -> None:
    first, parts = assign_buckets(np.array([10, 20, 3000, 5, 990, 30, 1000]), 1000)
    assert parts.tolist() == [1, 1, 4, 1, 1, 1, 1]
    assert first.tolist() == [0, 0, 1, 5, 5, 6, 7]


def test_the_rows_of_a_bucket_follow_the_memory() -> None:
    assert bucket_rows(4_000_000_000) == 56_250_000
    assert bucket_rows(1) == 1024


def test_empty_buckets_are_passed_over_and_a_cell_goes_on_in_the_next(tmp_path: Path) -> None:
    paths = [tmp_path / str(i) for i in range(5)]
    records = np.zeros(5, RECORD)
    records["cell"], records["num_tokens"] = [0, 1, 1, 1, 2], [5, 7, 1, 2, 9]
    records["key"] = records["doc"] = [0, 1, 2, 3, 4]
    for path, part in zip((paths[0], paths[3], paths[4]), np.split(records, [2, 3]), strict=True):
        part.tofile(path)
    paths[1].touch()
    tables = list(sorted_tables(paths))
    assert [table.num_rows for table in tables] == [2, 1, 2]
    found = pa.concat_tables(tables)
    assert found["doc"].to_pylist() == [0, 1, 2, 3, 4]
    assert found["tokens_before"].to_pylist() == [0, 0, 7, 8, 0]


@pytest.mark.parametrize("num_cells", [1, 2, 3, 400])
@pytest.mark.parametrize("num_keys", [2, 2**64 - 1])  # with many ties, and with none
def test_one_number_sorts_as_the_three_columns_do(num_cells: int, num_keys: int) -> None:
    rng = np.random.default_rng(num_cells)
    records = np.zeros(2000, RECORD)
    records["cell"] = rng.integers(0, num_cells, 2000) + 70_000
    records["key"] = rng.integers(0, num_keys, 2000, np.uint64)
    records["doc"] = rng.permutation(2000)
    slow = sorted(range(2000), key=lambda i: tuple(records[["cell", "key", "doc"]][i].tolist()))
    assert sort_order(records).tolist() == slow


def test_keys_that_differ_in_their_last_bits_only_are_sorted_too() -> None:
    records = np.zeros(3, RECORD)
    records["cell"], records["key"], records["doc"] = [1, 0, 0], [5, 7, 6], [1, 2, 3]
    assert sort_order(records).tolist() == [2, 1, 0]


def fill(folder: Path) -> Buckets:
    buckets = Buckets(folder, "x")
    buckets.begin(Counts(*(np.array([2]) for _ in range(3))))
    buckets.add(np.array([2, 0, 2]), np.ones(3, RECORD), 3)
    buckets.note(1, 3)
    return buckets


def sizes(buckets: Buckets) -> list[int]:
    return [p.stat().st_size // RECORD.itemsize if p.exists() else -1 for p in buckets.paths(3)]


def test_what_came_after_the_last_note_is_cut_off(tmp_path: Path) -> None:
    buckets = fill(tmp_path / "buckets")
    assert sizes(buckets) == [1, -1, 2]
    buckets.add(np.array([0, 1]), np.ones(2, RECORD), 3)
    assert sizes(buckets) == [2, 1, 2]
    assert buckets.go_on(3) == 1
    assert sizes(buckets) == [1, 0, 2]


def test_buckets_that_lost_bytes_are_filled_from_the_start(tmp_path: Path) -> None:
    buckets = fill(tmp_path / "buckets")
    buckets.paths(3)[2].unlink()
    assert buckets.go_on(3) == 0
    assert sizes(buckets) == [0, -1, -1]


def test_counts_belong_to_what_they_were_made_from(tmp_path: Path) -> None:
    counts = fill(tmp_path / "buckets").counts()
    assert counts is not None
    assert counts.num_docs_C.tolist() == [2]
    assert Buckets(tmp_path / "buckets", "y").counts() is None
    assert Buckets(tmp_path / "other", "x").counts() is None
