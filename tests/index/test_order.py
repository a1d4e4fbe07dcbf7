"""The order: sorted bucket by bucket, and read in part once its bytes were compared."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from mads.errors import DataError
from mads.index import order as module
from mads.index.buckets import RECORD, Bucket
from mads.index.order import Order, sort_order, sorted_tables, write_order
from mads.layout import IndexDir
from mads.sealed import read_seal


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


def written(folder: Path, num_cells: int, num_docs: int) -> Order:
    """Write an order of one bucket, with the documents numbered from 1000 on."""
    records = np.zeros(num_docs, RECORD)
    records["cell"] = np.sort(np.arange(num_docs) % num_cells)
    records["num_tokens"] = 3 + np.arange(num_docs) % 5
    records["key"] = np.arange(num_docs)
    records["doc"] = 1000 + np.arange(num_docs)
    index = IndexDir(folder / "0001")
    index.root.mkdir()
    write_order([bucket(folder / "000000", records)], index)
    return Order(index, read_seal(index.order), read_seal(index.order_sums))


def test_rows_are_read_over_the_edges_of_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROW_GROUP", 64)
    order = written(tmp_path, 3, 300)
    assert pq.read_metadata(order.path).num_row_groups == 5
    rows = np.array([299, 0, 63, 64, 64, 130], np.int64)
    assert order.docs(rows).tolist() == (rows + 1000).tolist()
    assert order.docs(np.zeros(0, np.int64)).tolist() == []
    found = order.rows(np.array([100, 101, 102]), ["cell", "num_tokens", "tokens_before"])
    assert found["cell"].tolist() == [1, 1, 1]  # the second cell begins at row 100
    assert found["num_tokens"].tolist() == [3, 4, 5]
    assert found["tokens_before"].tolist() == [0, 3, 7]


def test_only_the_blocks_of_what_is_read_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROW_GROUP", 64)
    monkeypatch.setattr("mads.blocks.BLOCK", 256)
    order = written(tmp_path, 3, 300)
    content = bytearray(order.path.read_bytes())
    content[-len(content) // 2] ^= 1
    order.path.write_bytes(content)
    assert order.docs(np.array([0])).tolist() == [1000]
    order.check(np.array([[0, 64]]))
    with pytest.raises(DataError, match=r"order\.parquet "):
        order.check(np.array([[0, 300]]))
    with pytest.raises(DataError, match=r"order\.parquet "):
        order.docs(np.arange(300))


def test_an_order_of_another_generation_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = written(tmp_path / "a", 3, 300), written(tmp_path / "b", 4, 300)
    index = IndexDir(one.path.parent)
    with pytest.raises(DataError, match=r"order\.parquet "):
        Order(index, read_seal(other.path), read_seal(index.order_sums))
