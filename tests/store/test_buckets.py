"""Buckets: how cells are assigned, how a bucket is sorted, how far a killed call had come."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from mads.errors import DataError
from mads.store.buckets import (
    RECORD,
    Bucket,
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


def bucket(path: Path, records: NDArray[Any]) -> Bucket:
    records.tofile(path)
    return Bucket(path, records.nbytes, zlib.crc32(records.tobytes()))


def test_empty_buckets_are_passed_over_and_a_cell_goes_on_in_the_next(tmp_path: Path) -> None:
    records = np.zeros(5, RECORD)
    records["cell"], records["num_tokens"] = [0, 1, 1, 1, 2], [5, 7, 1, 2, 9]
    records["key"] = records["doc"] = [0, 1, 2, 3, 4]
    first, second, third = (
        bucket(tmp_path / str(i), part) for i, part in enumerate(np.split(records, [2, 3]))
    )
    (tmp_path / "empty").touch()
    empty, missing = Bucket(tmp_path / "empty", 0, 0), Bucket(tmp_path / "missing", 0, 0)
    tables = list(sorted_tables([first, empty, missing, second, third]))
    assert [table.num_rows for table in tables] == [2, 1, 2]
    found = pa.concat_tables(tables)
    assert found["doc"].to_pylist() == [0, 1, 2, 3, 4]
    assert found["tokens_before"].to_pylist() == [0, 0, 7, 8, 0]


def test_a_bucket_that_was_changed_before_it_is_sorted_is_refused(tmp_path: Path) -> None:
    whole = bucket(tmp_path / "000000", np.ones(3, RECORD))
    content = bytearray(whole.path.read_bytes())
    content[5] ^= 1
    for changed in (bytes(content), bytes(content[:48]), whole.path.read_bytes() + bytes(24)):
        whole.path.write_bytes(changed)
        message = (
            rf"000000 was changed while the index was built: found {len(changed)} bytes with the "
            rf"CRC-32 \w{{8}}, expected 72 with \w{{8}}\. Run the same `mads annotate` again"
        )
        with pytest.raises(DataError, match=message):
            list(sorted_tables([whole]))
    whole.path.unlink()
    with pytest.raises(DataError, match=r"000000 cannot be read: No such file or directory\. Run"):
        list(sorted_tables([whole]))


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
