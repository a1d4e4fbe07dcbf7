"""The order: every document's number, cell and tokens, cell by cell, shuffled within a cell.

It is written from sorted buckets, and read in part: of what is read, the bytes are compared with
their checksums first, each block once in a process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mads.blocks import Verifier, read_sums, write_sums
from mads.files import unreadable
from mads.index.buckets import Bucket, read_bucket
from mads.layout import IndexDir
from mads.sealed import REMEDY, Seal, check_seal, sealed_writer

ROW_GROUP = 65_536
ORDER_SCHEMA = pa.schema(
    [
        pa.field("doc", pa.uint64(), nullable=False),
        pa.field("cell", pa.uint32(), nullable=False),
        pa.field("num_tokens", pa.uint32(), nullable=False),
        pa.field("tokens_before", pa.uint64(), nullable=False),
    ]
)


def write_order(buckets: Sequence[Bucket], index: IndexDir) -> None:
    """Write the order and its checksums, in row groups of equal size.

    So the buckets leave no trace.
    """
    # The order is read in part, so each page has a checksum of its own.
    delta = "DELTA_BINARY_PACKED"  # a third smaller, and as much faster to read
    options = {
        "compression": "lz4",
        "use_dictionary": ["cell"],
        "column_encoding": {"tokens_before": delta, "num_tokens": delta},
        "write_page_checksum": True,
    }
    with sealed_writer(index.order, ORDER_SCHEMA, **options) as writer:
        rest = ORDER_SCHEMA.empty_table()
        for table in sorted_tables(buckets):
            rest = pa.concat_tables([rest, table])
            del table
            while rest.num_rows >= ROW_GROUP:
                writer.write_table(rest.slice(0, ROW_GROUP).combine_chunks())
                rest = rest.slice(ROW_GROUP)
            rest = rest.combine_chunks()  # lets go of the rows that were written
        if rest.num_rows:
            writer.write_table(rest)
    write_sums(index.order_sums, [index.order])


def sorted_tables(buckets: Sequence[Bucket]) -> Iterator[pa.Table]:
    """Yield each bucket as rows of the order, sorted by cell, key and document.

    Raises DataError when a bucket has not the bytes that were written.
    """
    last_cell, carry = -1, 0
    for bucket in buckets:
        if bucket.size:
            last_cell, table, carry = _sorted_bucket(bucket, last_cell, carry)
            yield table
            del table  # before the next one is made


def _sorted_bucket(bucket: Bucket, last_cell: int, carry: int) -> tuple[int, pa.Table, int]:
    """Return a bucket's last cell, its rows of the order, and that cell's tokens so far.

    ``carry`` are the tokens of ``last_cell`` in the buckets before. Columns are taken one by one,
    so that no second copy of the records is made.
    """
    records = read_bucket(bucket)
    order_N = sort_order(records)
    doc, cell, tokens = (records[name][order_N] for name in ("doc", "cell", "num_tokens"))
    del records, order_N
    before = np.cumsum(tokens, dtype=np.int64)
    before -= tokens
    starts = np.flatnonzero(np.concatenate(([True], cell[1:] != cell[:-1])))
    offset = before[starts]
    if int(cell[0]) == last_cell:  # the cell goes on from the bucket before
        offset[0] -= carry
    before -= np.repeat(offset, np.diff(np.concatenate((starts, [len(cell)]))))
    table = pa.table([doc, cell, tokens, before.view(np.uint64)], schema=ORDER_SCHEMA)
    return int(cell[-1]), table, int(before[-1]) + int(tokens[-1])


def sort_order(record_N: NDArray[Any]) -> NDArray[np.int64]:
    """Return the indices that sort records by cell, key and document.

    A bucket has few cells, so cell and key nearly always fit into one number, which is sorted
    three times as fast as the three columns; where two such numbers tie, the columns decide.
    """
    cell_N = record_N["cell"] - record_N["cell"].min()
    bits = int(cell_N.max()).bit_length()
    joined_N = record_N["key"] >> np.uint64(bits)
    if bits:
        joined_N |= cell_N.astype(np.uint64) << np.uint64(64 - bits)
    order_N: NDArray[np.int64] = np.argsort(joined_N)
    joined_N = joined_N[order_N]
    if not (joined_N[1:] > joined_N[:-1]).all():
        order_N = np.lexsort((record_N["doc"], record_N["key"], record_N["cell"]))
    return order_N


class Order:
    """The order of one generation; raises DataError when its size or footer is not its seal's."""

    def __init__(self, index: IndexDir, seal: Seal, sums_seal: Seal, remedy: str = REMEDY) -> None:
        check_seal(index.order, seal, remedy)
        self.path, self._remedy = index.order, remedy
        self._sums, self._sums_seal = index.order_sums, sums_seal

    @cached_property
    def _groups(self) -> _Groups:
        check_seal(self._sums, self._sums_seal, self._remedy)
        sums = read_sums(self._sums, [self.path], self._remedy)[0]
        verifier = Verifier(self.path, sums, self._remedy)
        with pq.ParquetFile(self.path) as file:
            groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
        ends = np.cumsum([0, *(group.num_rows for group in groups)])
        # The groups lie one after the other, so each ends where the next begins.
        begins = np.array([*map(_first_byte, groups), self.path.stat().st_size])
        return _Groups(verifier, ends, np.stack([begins[:-1], begins[1:]], axis=1))

    def check(self, rows: NDArray[np.int64], threads: int = 1) -> None:
        """Verify the bytes that hold runs of rows, shape (R, 2): first and end.

        Each block is read once in a process. Raises DataError for the first that was changed.
        """
        groups = self._groups
        first = np.searchsorted(groups.ends, rows[:, 0], side="right") - 1
        last = np.searchsorted(groups.ends, rows[:, 1], side="left")
        wanted = np.zeros(len(groups.extents) + 1, np.int64)
        np.add.at(wanted, first, 1)
        np.add.at(wanted, last, -1)
        with self.path.open("rb") as file:
            extents = groups.extents[np.cumsum(wanted)[:-1] > 0]
            groups.verifier.check_spans(file.fileno(), extents, threads)

    def rows(self, row_N: NDArray[np.int64], columns: list[str]) -> dict[str, NDArray[np.uint64]]:
        """Return columns at the given rows; only their row groups are read.

        Raises DataError when the order is missing, damaged or not the one of its seal.
        """
        try:
            self.check(np.stack([row_N, row_N + 1], axis=1))
            return self._read(row_N, columns)
        except (OSError, pa.ArrowException, KeyError, MemoryError) as error:
            raise unreadable(self.path, error, self._remedy) from error

    def _read(self, row_N: NDArray[np.int64], columns: list[str]) -> dict[str, NDArray[np.uint64]]:
        ends = self._groups.ends
        group_N = np.searchsorted(ends, row_N, side="right") - 1
        found = {name: np.empty(len(row_N), np.uint64) for name in columns}
        with pq.ParquetFile(self.path) as file:
            for group in np.unique(group_N).tolist():
                here = group_N == group
                table = file.read_row_group(group, columns=columns)
                for name in columns:
                    found[name][here] = table[name].to_numpy()[row_N[here] - ends[group]]
        return found

    def groups(self) -> Iterator[tuple[int, NDArray[np.uint64]]]:
        """Yield the first row and the documents of each row group, all bytes verified.

        Raises DataError when the order is missing, damaged or not the one of its seal.
        """
        try:
            ends = self._groups.ends
            with pq.ParquetFile(self.path) as file:
                for group, first in enumerate(ends[:-1].tolist()):
                    self.check(np.array([[first, ends[group + 1]]]))
                    yield first, file.read_row_group(group, columns=["doc"])["doc"].to_numpy()
        except (OSError, pa.ArrowException, KeyError, MemoryError) as error:
            raise unreadable(self.path, error, self._remedy) from error

    def docs(self, row_N: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the documents at rows of the order."""
        return self.rows(row_N, ["doc"])["doc"]


@dataclass(frozen=True, slots=True, eq=False)
class _Groups:
    """Each row group of the order: its first row (``ends``, with the end of all), its bytes."""

    verifier: Verifier
    ends: NDArray[np.int64]
    extents: NDArray[np.int64]


def _first_byte(group: pq.RowGroupMetaData) -> int:
    """Return where a row group's bytes begin: with its first column's first page."""
    column = group.column(0)
    if column.has_dictionary_page:
        return int(min(column.data_page_offset, column.dictionary_page_offset))
    return int(column.data_page_offset)
