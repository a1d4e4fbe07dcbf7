"""A table that is matched by ids: two sorted arrays on disk, which all workers map.

    rows ─▶ (hash of the id, number) in buckets by the hash's upper bits ─ sorted one by one ─▶
    hashes.bin uint64 · values.bin float32

So the RAM of making them is that of a bucket, and of using them what the system keeps of the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mads.agents.table.files import Table
from mads.corpus.ids import hash_id
from mads.errors import DataError
from mads.files import fresh_folder
from mads.types import ID, DocumentBatch
from mads.units import shorten

BUCKET_BITS = 8
RECORD = np.dtype([("hash", "<u8"), ("value", "<f4")])


class IdIndex:
    """Finds the numbers of ids."""

    def __init__(self, folder: Path) -> None:
        self._hash_R = _mapped(folder / "hashes.bin", np.uint64)
        self._value_R = _mapped(folder / "values.bin", np.float32)

    @staticmethod
    def open(folder: Path, table: Table) -> IdIndex:
        """Return the index of a table, which is made unless it is there.

        Raises DataError for a row without an id, and for an id with two different values.
        """
        if not folder.is_dir():
            with fresh_folder(folder) as partial:
                if partial is not None:
                    _write(partial, table)
        return IdIndex(folder)

    def of(self, batch: DocumentBatch) -> NDArray[np.float32]:
        """Return the number of each of N documents by its id, NaN for none."""
        ids = batch.fields[ID]
        hash_N = np.array(
            [hash_id(text) if isinstance(text, str) else 0 for text in ids], np.uint64
        )
        has_id_N = np.array([isinstance(text, str) for text in ids], bool)
        value_N = np.full(len(ids), np.nan, np.float32)
        if len(self._hash_R):
            place_N = np.minimum(np.searchsorted(self._hash_R, hash_N), len(self._hash_R) - 1)
            is_known_N = (self._hash_R[place_N] == hash_N) & has_id_N
            value_N[is_known_N] = self._value_R[place_N[is_known_N]]
        return value_N


def _mapped(path: Path, dtype: type[np.generic]) -> NDArray[Any]:
    if not path.stat().st_size:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, "r")


def _write(folder: Path, table: Table) -> None:
    buckets = [folder / f"bucket-{i:03}" for i in range(2**BUCKET_BITS)]
    with ExitStack() as stack:
        handles = [stack.enter_context(path.open("wb")) for path in buckets]
        for record_N in _records(table):
            bucket_N = record_N["hash"] >> np.uint64(64 - BUCKET_BITS)
            ordered_N = record_N[np.argsort(bucket_N, kind="stable")]
            ends = np.cumsum(np.bincount(bucket_N.astype(np.int64), minlength=len(buckets)))
            for handle, part in zip(handles, np.split(ordered_N, ends[:-1]), strict=True):
                handle.write(part.tobytes())
    with (folder / "hashes.bin").open("wb") as hashes, (folder / "values.bin").open("wb") as values:
        for path in buckets:
            record_N = _distinct(table, np.fromfile(path, RECORD))
            hashes.write(record_N["hash"].tobytes())
            values.write(record_N["value"].tobytes())
            path.unlink()


def _records(table: Table) -> Iterator[NDArray[np.void]]:
    for file in table.files:
        for rows in table.rows(file):
            if None in rows.ids:
                row = rows.first + rows.ids.index(None)
                raise DataError(
                    f"{file.path}: row {row} has no id in {table.values.id!r}, expected a text or "
                    "a whole number. Correct the table."
                )
            record_N = np.empty(len(rows.ids), RECORD)
            record_N["hash"] = [hash_id(text) for text in rows.ids if text is not None]
            record_N["value"] = rows.value_N
            yield record_N


def _distinct(table: Table, record_N: NDArray[np.void]) -> NDArray[np.void]:
    """Return records sorted by their hashes, each once; raises DataError for two values of one."""
    sorted_N = record_N[np.argsort(record_N["hash"], kind="stable")]
    is_same_M = sorted_N["hash"][1:] == sorted_N["hash"][:-1]
    before_M, after_M = sorted_N["value"][:-1], sorted_N["value"][1:]
    is_other_M = is_same_M & (before_M != after_M) & ~(np.isnan(before_M) & np.isnan(after_M))
    if is_other_M.any():
        place = int(np.flatnonzero(is_other_M)[0])
        raise _twice(table, int(sorted_N["hash"][place]))
    return sorted_N[np.concatenate(([True], ~is_same_M))] if len(sorted_N) else sorted_N


def _twice(table: Table, wanted: int) -> DataError:
    places = [
        (text, f"{file.path}, row {rows.first + i}")
        for file in table.files
        for rows in table.rows(file)
        for i, text in enumerate(rows.ids)
        if text is not None and hash_id(text) == wanted
    ]
    where = " and ".join(place for _, place in places[:3])
    shown = shorten(places[0][0])
    return DataError(
        f"agent {table.agent!r}: the table has different values for the id {shown}: {where}. Keep "
        "one of them."
    )
