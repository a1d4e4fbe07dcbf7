"""Parquet files that carry a fingerprint of their own bytes, so that a change is noticed.

The fingerprint is the sha256 of all bytes before the Parquet footer, and it lies in the footer. A
file that is read whole is compared with itself; one that is read in part is compared with the
manifest, by its size and its footer's fingerprint, which costs next to nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from mads.errors import DataError
from mads.files import atomic_path

METADATA_KEY = b"mads"
FINGERPRINT_KEY = b"mads.sha256"
REMEDY = "Delete it, if it is there, and run the same `mads annotate` again; it makes it anew."
_CHUNK = 1024 * 1024
_TAIL = struct.Struct("<I4s")  # length of the footer, magic


@dataclass(frozen=True, slots=True)
class Seal:
    """What the manifest says of a file: its bytes, and the fingerprint that its footer holds."""

    size: int
    sha256: str


class _Hashed:
    """A file open for writing whose bytes are hashed as they go."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self.sha256 = hashlib.sha256()
        self.closed = False

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self._handle.write(data)

    def flush(self) -> None:
        self._handle.flush()

    def close(self) -> None:
        self.closed = True


@contextmanager
def sealed_writer(path: Path, schema: pa.Schema, **options: Any) -> Iterator[pq.ParquetWriter]:
    """Yield a Parquet writer; the file appears, sealed, when the block ends without an error."""
    with atomic_path(path) as partial, partial.open("wb") as handle:
        sink = _Hashed(handle)
        with pq.ParquetWriter(pa.PythonFile(sink, "w"), schema, **options) as writer:
            yield writer
            # All row groups are in the file by now; only the footer is still to come.
            writer.add_key_value_metadata({FINGERPRINT_KEY: sink.sha256.hexdigest()})


def write_sealed(
    path: Path, table: pa.Table, metadata: Mapping[str, Any] | None = None, **options: Any
) -> None:
    """Write a table as a sealed Parquet file; ``metadata`` becomes JSON in its footer."""
    if metadata is not None:
        table = table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata).encode()})
    with sealed_writer(path, table.schema, **options) as writer:
        writer.write_table(table)


def read_seal(path: Path) -> Seal:
    """Return a file's size and the fingerprint in its footer.

    Raises DataError when the file is missing, damaged or carries no fingerprint.
    """
    size, claimed = _read_footer(path)
    if claimed is None:
        raise _differs(path, "fingerprint", "missing", "one in its footer")
    return Seal(size, claimed)


def check_seal(path: Path, expected: Seal) -> None:
    """Compare a file's size and footer with the manifest; nothing else of it is read.

    Raises DataError, with both values, when they differ.
    """
    size, claimed = _read_footer(path)
    if claimed != expected.sha256:
        raise _differs(path, "fingerprint", (claimed or "missing")[:16], expected.sha256[:16])
    if size != expected.size:
        raise _differs(path, "size", f"{size} bytes", f"{expected.size} bytes")


def read_sealed(
    path: Path,
    columns: list[str] | None = None,
    expected: Seal | None = None,
    remedy: str = REMEDY,
) -> pa.Table:
    """Read a file whose bytes agree with its own fingerprint, and with the manifest's if given.

    Raises DataError, with both fingerprints and the remedy, when they do not, and when the file is
    missing or damaged.
    """
    try:
        data = path.read_bytes()
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            wanted = expected.sha256 if expected is not None else _claimed(file.metadata)
            found = _fingerprint(io.BytesIO(data))
            if found != wanted:
                shown = wanted[:16] if wanted else "one in its footer"
                raise _differs(path, "fingerprint", found[:16], shown, remedy)
            return file.read(columns=columns)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise _unreadable(path, error, remedy) from error


def check_sealed(path: Path, expected: Seal) -> None:
    """Read a file of any size and compare its bytes with the manifest (``read_sealed``)."""
    check_seal(path, expected)
    with path.open("rb") as handle:
        found = _fingerprint(handle)
    if found != expected.sha256:
        raise _differs(path, "fingerprint", found[:16], expected.sha256[:16])


def _fingerprint(handle: BinaryIO) -> str:
    """Return the sha256 of all that stands before a Parquet file's footer."""
    end = handle.seek(-_TAIL.size, os.SEEK_END)
    length, _ = _TAIL.unpack(handle.read(_TAIL.size))
    left = end - length
    digest = hashlib.sha256()
    handle.seek(0)
    while chunk := handle.read(min(left, _CHUNK)):
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest()


def _read_footer(path: Path) -> tuple[int, str | None]:
    try:
        return path.stat().st_size, _claimed(pq.read_metadata(path))
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _claimed(footer: pq.FileMetaData) -> str | None:
    """Return the fingerprint in a footer, if there is one."""
    value: bytes | None = (footer.metadata or {}).get(FINGERPRINT_KEY)
    return value.decode("ascii", "replace") if value else None


def _differs(path: Path, what: str, found: str, expected: str, remedy: str = REMEDY) -> DataError:
    return DataError(
        f"{path} is not the file that mads wrote: its {what} is {found}, expected "
        f"{expected}. {remedy}"
    )


def _unreadable(path: Path, error: Exception, remedy: str = REMEDY) -> DataError:
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return DataError(f"{path} cannot be read: {reason}. {remedy}")
