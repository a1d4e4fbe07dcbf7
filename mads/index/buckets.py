"""Documents thrown into files, each small enough to be sorted in RAM: the index's middle step.

A bucket is a range of cells, or a range of one large cell's shuffle keys; the buckets' names stand
in the order of the result. Now and then the sizes of all of them are noted with the CRC-32 of
their bytes, once these are on the disk. A call that goes on after a killed one cuts the buckets
back to the last note and compares them with it; whatever does not agree is begun anew.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mads.codec import Within, from_json, to_json
from mads.errors import DataError
from mads.files import read_sealed_json, sync, unreadable, write_sealed_json

T = TypeVar("T")
# What a note's reader says is never shown: what cannot be used is begun anew.
REMEDY = "Run the same `mads annotate` again; it makes the buckets anew."
COMPARED_BYTES = 1 << 20  # of a bucket, at a time
# What is needed besides a bucket: the process, its libraries and one shard's columns.
BASE_BYTES = 400_000_000
# An upper estimate for one row while its bucket is sorted: record, key, order, and columns.
BYTES_PER_ROW = 64
NOTE_ROWS = 4_000_000  # rows from one note to the next
RECORD = np.dtype([("cell", "<u4"), ("num_tokens", "<u4"), ("key", "<u8"), ("doc", "<u8")])


@dataclass(frozen=True, slots=True)
class Counts:
    """The cells: combined category (rising), documents and tokens of each."""

    code_C: NDArray[np.int64]
    num_docs_C: NDArray[np.int64]
    num_tokens_C: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bucket:
    """A file of records, as it was written: how many bytes it has, and their CRC-32."""

    path: Path
    size: int
    crc: int


@dataclass(frozen=True, slots=True)
class _Counted:
    """counts.json: what the buckets are made from, and the cells found in it."""

    identity: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class _Filled:
    """filled.json: how many shards are in the buckets, and each bucket's bytes and CRC-32."""

    shards: Annotated[int, Within(0, 2**32)]
    sizes: tuple[Annotated[int, Within(0, 2**63 - 1)], ...]
    crcs: tuple[Annotated[int, Within(0, 2**32 - 1)], ...]


class Buckets:
    """A folder of buckets with its notes: what it is made from, the counts, how far it came."""

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder = folder
        self._identity = identity
        self._size: dict[int, int] = {}
        self._crc: dict[int, int] = {}

    def counts(self) -> Counts | None:
        """Return the counts that a killed call noted, if it worked on the same."""
        saved = self._note(_Counted, "counts.json")
        return saved.counts if saved is not None and saved.identity == self._identity else None

    def begin(self, counts: Counts) -> None:
        """Empty the folder and note the counts."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._size, self._crc = {}, {}
        write_sealed_json(self._folder / "counts.json", to_json(_Counted(self._identity, counts)))

    def go_on(self, num_buckets: int) -> int:
        """Cut the buckets back to the last note; return the number of shards that are in them.

        The bytes that stay are compared with the note; if any differ, all buckets are emptied.
        """
        note = self._note(_Filled, "filled.json")
        paths = self._paths(num_buckets)
        if note is None or not _agrees(note, paths):
            note = _Filled(0, (0,) * num_buckets, (0,) * num_buckets)
        for path, size in zip(paths, note.sizes, strict=True):
            if path.is_file() and path.stat().st_size > size:
                os.truncate(path, size)
        self._size, self._crc = dict(enumerate(note.sizes)), dict(enumerate(note.crcs))
        return note.shards

    def add(self, bucket_N: NDArray[np.int64], record_N: NDArray[Any], num_buckets: int) -> None:
        """Append documents to their buckets."""
        if num_buckets < 2**16:
            bucket_N = bucket_N.astype(np.uint16)  # sorted in linear time
        grouped = np.argsort(bucket_N, kind="stable")
        bounds = np.searchsorted(bucket_N[grouped], np.arange(num_buckets + 1))
        for i in np.flatnonzero(np.diff(bounds)).tolist():
            part_N = record_N[grouped[bounds[i] : bounds[i + 1]]]
            with self._path(i).open("ab") as handle:
                part_N.tofile(handle)
            self._size[i] = self._size.get(i, 0) + part_N.nbytes
            self._crc[i] = zlib.crc32(part_N.view(np.uint8).data, self._crc.get(i, 0))

    def note(self, shards: int, num_buckets: int) -> None:
        """Note that the first shards are in the buckets, once their bytes are on the disk."""
        found = self.filled(num_buckets)
        for bucket in found:
            if bucket.size:
                sync(bucket.path)
        note = _Filled(shards, tuple(b.size for b in found), tuple(b.crc for b in found))
        write_sealed_json(self._folder / "filled.json", to_json(note))

    def filled(self, num_buckets: int) -> list[Bucket]:
        """Return the buckets in order; one without a document may have no file."""
        return [
            Bucket(path, self._size.get(i, 0), self._crc.get(i, 0))
            for i, path in enumerate(self._paths(num_buckets))
        ]

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self._folder)

    def _paths(self, num_buckets: int) -> list[Path]:
        return [self._path(i) for i in range(num_buckets)]

    def _path(self, bucket: int) -> Path:
        return self._folder / f"{bucket:06d}"

    def _note(self, cls: type[T], name: str) -> T | None:
        path = self._folder / name
        try:
            return from_json(cls, read_sealed_json(path, REMEDY), path, "a note", REMEDY)
        except DataError:  # not there, damaged, or not ours: begin anew
            return None


def _agrees(note: _Filled, paths: Sequence[Path]) -> bool:
    """Tell whether the buckets begin with the bytes of a note."""
    if not len(note.sizes) == len(note.crcs) == len(paths):
        return False
    return all(
        _crc_of(path, size) == crc
        for path, size, crc in zip(paths, note.sizes, note.crcs, strict=True)
    )


def _crc_of(path: Path, size: int) -> int | None:
    """Return the CRC-32 of a file's first bytes; None when it has less than them."""
    if not size:
        return 0
    crc = 0
    try:
        with path.open("rb") as handle:
            while size and (block := handle.read(min(size, COMPARED_BYTES))):
                crc, size = zlib.crc32(block, crc), size - len(block)
    except OSError:
        return None
    return None if size else crc


def bucket_rows(ram_bytes: int) -> int:
    """Return how many rows a bucket may have, so that sorting it keeps within the RAM."""
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


def read_bucket(bucket: Bucket) -> NDArray[Any]:
    """Return the records of a bucket, compared with what was written."""
    path = bucket.path
    try:
        record_N = np.fromfile(path, RECORD)
    except OSError as error:
        raise unreadable(path, error, REMEDY) from error
    found = zlib.crc32(record_N.view(np.uint8).data)
    if record_N.nbytes != bucket.size or found != bucket.crc:
        raise DataError(
            f"{path} was changed while the index was built: found {record_N.nbytes:,} bytes with "
            f"the CRC-32 {found:08x}, expected {bucket.size:,} with {bucket.crc:08x}. {REMEDY}"
        )
    return record_N
