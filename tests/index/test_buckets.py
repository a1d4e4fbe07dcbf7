"""Buckets: how cells are assigned, how far a killed call had come."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from mads.index.buckets import (
    RECORD,
    Buckets,
    Counts,
    assign_buckets,
    bucket_rows,
)


def test_a_large_cell_is_spread_over_buckets_and_small_ones_share() -> None:
    first, parts = assign_buckets(np.array([10, 20, 3000, 5, 990, 30, 1000]), 1000)
    assert parts.tolist() == [1, 1, 4, 1, 1, 1, 1]
    assert first.tolist() == [0, 0, 1, 5, 5, 6, 7]


def test_the_rows_of_a_bucket_follow_the_memory() -> None:
    assert bucket_rows(4_000_000_000) == 56_250_000
    assert bucket_rows(1) == 1024


def fill(folder: Path) -> Buckets:
    buckets = Buckets(folder, "x")
    buckets.begin(Counts(*(np.array([2]) for _ in range(3))))
    buckets.add(np.array([2, 0, 2]), np.ones(3, RECORD), 3)
    buckets.note(1, 3)
    return buckets


def sizes(folder: Path) -> list[int]:
    paths = [folder / f"{i:06d}" for i in range(3)]
    return [path.stat().st_size // RECORD.itemsize if path.exists() else -1 for path in paths]


def test_what_came_after_the_last_note_is_cut_off(tmp_path: Path) -> None:
    buckets = fill(tmp_path)
    noted = buckets.filled(3)
    assert sizes(tmp_path) == [1, -1, 2]
    buckets.add(np.array([0, 1]), np.ones(2, RECORD), 3)
    assert sizes(tmp_path) == [2, 1, 2]
    again = Buckets(tmp_path, "x")
    assert again.go_on(3) == 1
    assert sizes(tmp_path) == [1, 0, 2]
    assert again.filled(3) == noted


def test_the_checksum_goes_on_over_all_that_is_appended(tmp_path: Path) -> None:
    fill(tmp_path)
    again = Buckets(tmp_path, "x")
    assert again.go_on(3) == 1
    again.add(np.array([2, 1]), np.full(2, 7, RECORD), 3)
    for found in again.filled(3):
        content = found.path.read_bytes()
        assert (found.size, found.crc) == (len(content), zlib.crc32(content))


def test_buckets_that_lost_bytes_are_filled_from_the_start(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "000002").unlink()
    assert Buckets(tmp_path, "x").go_on(3) == 0
    assert sizes(tmp_path) == [0, -1, -1]


def test_buckets_that_differ_in_one_bit_are_filled_from_the_start(tmp_path: Path) -> None:
    fill(tmp_path)
    path = tmp_path / "000002"
    content = bytearray(path.read_bytes())
    content[30] ^= 4
    path.write_bytes(content)
    again = Buckets(tmp_path, "x")
    assert again.go_on(3) == 0
    assert sizes(tmp_path) == [0, -1, 0]
    assert [(bucket.size, bucket.crc) for bucket in again.filled(3)] == [(0, 0)] * 3


def test_counts_belong_to_what_they_were_made_from(tmp_path: Path) -> None:
    counts = fill(tmp_path / "buckets").counts()
    assert counts is not None
    assert counts.num_docs_C.tolist() == [2]
    assert Buckets(tmp_path / "buckets", "y").counts() is None
    assert Buckets(tmp_path / "other", "x").counts() is None
