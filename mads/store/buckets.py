"""Documents thrown into files, each small enough to be sorted in memory: the index's middle step.

A bucket is a range of cells, or a range of one large cell's shuffle keys; the buckets' names stand
in the order of the result. Now and then the sizes of all of them are noted, after their bytes are
on the disk. A killed call cuts the buckets back to the last note and goes on from there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mads.errors import DataError
from mads.files import read_json, sync, write_json

# What is needed besides a bucket: the process, its libraries and one shard's columns.
BASE_BYTES = 400_000_000
# An upper estimate for one row while its bucket is sorted: record, key, order, and columns.
BYTES_PER_ROW = 64
NOTE_ROWS = 4_000_000  # rows from one note to the next
RECORD = np.dtype([("cell", "<u4"), ("num_tokens", "<u4"), ("key", "<u8"), ("doc", "<u8")])
ORDER_SCHEMA = pa.schema(
    [
        pa.field("doc", pa.uint64(), nullable=False),
        pa.field("cell", pa.uint32(), nullable=False),
        pa.field("num_tokens", pa.uint32(), nullable=False),
        pa.field("tokens_before", pa.uint64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Counts:
    """The cells: combined category (rising), documents and tokens of each."""

    code_C: NDArray[np.int64]
    num_docs_C: NDArray[np.int64]
    num_tokens_C: NDArray[np.int64]


class Buckets:
    """A folder of buckets with its notes: what it is made from, the counts, how far it came."""

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder = folder
        self._identity = identity

    def counts(self) -> Counts | None:
        """Return the counts that a killed call noted, if it worked on the same."""
        saved = self._note("counts.json")
        if saved.get("identity") != self._identity:
            return None
        try:
            columns = [np.array(saved[name], np.int64) for name in Counts.__dataclass_fields__]
        except (KeyError, TypeError, ValueError):
            return None
        return Counts(*columns)

    def begin(self, counts: Counts) -> None:
        """Empty the folder and note the counts."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        columns = {n: getattr(counts, n).tolist() for n in Counts.__dataclass_fields__}
        write_json(self._folder / "counts.json", {"identity": self._identity, **columns})

    def go_on(self, num_buckets: int) -> int:
        """Cut the buckets back to the last note; return the number of shards that are in them."""
        note = self._note("filled.json")
        paths = self.paths(num_buckets)
        sizes = note.get("sizes", [])
        present = [path.stat().st_size if path.is_file() else 0 for path in paths]
        usable = len(sizes) == num_buckets and all(
            has >= size for has, size in zip(present, sizes, strict=True)
        )
        if not usable:
            sizes = [0] * num_buckets
        for path, size, has in zip(paths, sizes, present, strict=True):
            if has > size:
                os.truncate(path, size)
        return int(note["shards"]) if usable else 0

    def add(self, bucket_N: NDArray[np.int64], record_N: NDArray[Any], num_buckets: int) -> None:
        """Append documents to their buckets."""
        if num_buckets < 2**16:
            bucket_N = bucket_N.astype(np.uint16)  # sorted in linear time
        grouped = np.argsort(bucket_N, kind="stable")
        bounds = np.searchsorted(bucket_N[grouped], np.arange(num_buckets + 1))
        for i in np.flatnonzero(np.diff(bounds)).tolist():
            with self._path(i).open("ab") as handle:
                record_N[grouped[bounds[i] : bounds[i + 1]]].tofile(handle)

    def note(self, shards: int, num_buckets: int) -> None:
        """Note that the first shards are in the buckets, once their bytes are on the disk."""
        sizes = []
        for path in self.paths(num_buckets):
            if path.is_file():
                sync(path)
            sizes.append(path.stat().st_size if path.is_file() else 0)
        write_json(self._folder / "filled.json", {"shards": shards, "sizes": sizes})

    def paths(self, num_buckets: int) -> list[Path]:
        """Return the buckets in order; one without a document has no file."""
        return [self._path(i) for i in range(num_buckets)]

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self._folder)

    def _path(self, bucket: int) -> Path:
        return self._folder / f"{bucket:06d}"

    def _note(self, name: str) -> dict[str, Any]:
        try:
            value = read_json(self._folder / name)
        except DataError:  # not there, or not ours: begin anew
            return {}
        return value if isinstance(value, dict) else {}


def bucket_rows(ram_bytes: int) -> int:
    """Return how many rows a bucket may have, so that sorting it keeps within the memory."""
    return max((ram_bytes - BASE_BYTES) // BYTES_PER_ROW, 1024)


def assign_buckets(
    num_docs_C: NDArray[np.int64], max_rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each cell's first bucket and the number of buckets that it is spread over."""
    first_C = np.zeros(len(num_docs_C), np.int64)
    parts_C = np.ones(len(num_docs_C), np.int64)
    bucket = filled = 0
    for cell, docs in enumerate(num_docs_C.tolist()):
        if docs > max_rows:
            bucket += filled > 0
            # Keys are uniform; a tenth of room keeps a part below max_rows.
            first_C[cell], parts_C[cell] = bucket, -(-docs * 11 // (max_rows * 10))
            bucket, filled = bucket + int(parts_C[cell]), 0
            continue
        if filled + docs > max_rows:
            bucket, filled = bucket + 1, 0
        first_C[cell] = bucket
        filled += docs
    return first_C, parts_C


def sorted_tables(paths: list[Path]) -> Iterator[pa.Table]:
    """Yield each bucket as rows of the order, sorted by cell, key and document."""
    last_cell, carry = -1, 0
    for path in paths:
        if path.is_file() and path.stat().st_size:
            last_cell, table, carry = _sorted_bucket(path, last_cell, carry)
            yield table
            del table  # before the next one is made


def _sorted_bucket(path: Path, last_cell: int, carry: int) -> tuple[int, pa.Table, int]:
    """Return a bucket's last cell, its rows of the order, and that cell's tokens so far.

    ``carry`` are the tokens of ``last_cell`` in the buckets before. Columns are taken one by one,
    so that no second copy of the records is made.
    """
    records = np.fromfile(path, RECORD)
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
