"""Files that are known by their bytes, so that a change is noticed.

The sha256 of all bytes before a Parquet file's footer lies in the footer, beside that of the footer
itself (with zeros in its own place), and that of the footer as it lies there in a seal. So a file
that is read whole is compared with itself and with its seal, and one that is read in part has a
verified footer at the cost of its last kilobytes, also while no seal of it is known. Any other
file's seal holds the sha256 of all its bytes.
"""

from __future__ import annotations

import hashlib
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
from mads.files import atomic_path, unreadable

METADATA_KEY = b"mads"
FINGERPRINT_KEY = b"mads.sha256"
REMEDY = "Delete it, if it is there, and run the same `mads annotate` again; it makes it anew."
_HEX = 64  # digits of a sha256
_BLANK = b"0" * _HEX
_CHUNK = 1024 * 1024
_TAIL = struct.Struct("<I4s")  # length of the footer, magic


@dataclass(frozen=True, slots=True)
class Seal:
    """A file's size, and the sha256 of its footer (Parquet) or of all its bytes."""

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
    with atomic_path(path) as partial, partial.open("w+b") as handle:
        sink = _Hashed(handle)
        with pq.ParquetWriter(pa.PythonFile(sink, "w"), schema, **options) as writer:
            yield writer
            # All row groups are in the file by now; only the footer is still to come.
            claim = sink.sha256.hexdigest().encode() + _BLANK
            writer.add_key_value_metadata({FINGERPRINT_KEY: claim})
        _seal_footer(handle, claim)


def _seal_footer(handle: BinaryIO, claim: bytes) -> None:
    """Put the sha256 of a footer into its place in the footer."""
    start = _footer_start(handle)
    handle.seek(start)
    footer = handle.read()
    handle.seek(start + footer.index(claim) + _HEX)
    handle.write(hashlib.sha256(footer).hexdigest().encode())


def write_sealed(
    path: Path, table: pa.Table, metadata: Mapping[str, Any] | None = None, **options: Any
) -> None:
    """Write a table as a sealed Parquet file; ``metadata`` becomes JSON in its footer."""
    if metadata is not None:
        table = table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata).encode()})
    with sealed_writer(path, table.schema, **options) as writer:
        writer.write_table(table)


def read_seal(path: Path, remedy: str = REMEDY) -> Seal:
    """Return the seal of a file as it lies on the disk; of a Parquet file the footer alone is read.

    Raises DataError when the file is missing or damaged.
    """
    try:
        with path.open("rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            if path.suffix != ".parquet":
                return Seal(size, hashlib.file_digest(handle, "sha256").hexdigest())
            handle.seek(_footer_start(handle))
            return Seal(size, hashlib.sha256(handle.read()).hexdigest())
    except (OSError, struct.error) as error:
        raise _unreadable(path, error, remedy) from error


def check_seal(path: Path, expected: Seal, remedy: str = REMEDY) -> None:
    """Compare a file with its seal, a Parquet file by its footer alone.

    Raises DataError, with both values, when they differ.
    """
    found = read_seal(path, remedy)
    if found.sha256 != expected.sha256:
        raise _differs(path, "fingerprint", found.sha256[:16], expected.sha256[:16], remedy)
    if found.size != expected.size:
        raise _differs(path, "size", f"{found.size} bytes", f"{expected.size} bytes", remedy)


def read_sealed(
    path: Path,
    columns: list[str] | None = None,
    expected: Seal | None = None,
    remedy: str = REMEDY,
) -> pa.Table:
    """Read a Parquet file whose bytes agree with its footer, and that with its seal if given.

    Raises DataError, with both fingerprints, when they do not, and when the file is missing or
    damaged.
    """
    if expected is not None:
        check_seal(path, expected, remedy)
    try:
        data = path.read_bytes()
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            end = _footer_start_of(data)
            claimed = _claimed(path, file.metadata, data[end:], remedy)
            found = hashlib.sha256(data[:end]).hexdigest()
            if found != claimed:
                shown = claimed[:16] if claimed else "one in its footer"
                raise _differs(path, "fingerprint", found[:16], shown, remedy)
            return file.read(columns=columns)
    except (OSError, pa.ArrowException, KeyError, ValueError, struct.error, MemoryError) as error:
        raise _unreadable(path, error, remedy) from error


def check_sealed(path: Path, expected: Seal, remedy: str = REMEDY) -> None:
    """Read a file of any size and compare all its bytes with its seal."""
    check_seal(path, expected, remedy)
    if path.suffix != ".parquet":
        return
    with path.open("rb") as handle:
        end = _footer_start(handle)
        handle.seek(end)
        footer = handle.read()
        handle.seek(0)
        digest, left = hashlib.sha256(), end
        while chunk := handle.read(min(left, _CHUNK)):
            digest.update(chunk)
            left -= len(chunk)
    found, claimed = digest.hexdigest(), _claimed(path, pq.read_metadata(path), footer, remedy)
    if found != claimed:
        raise _differs(path, "fingerprint", found[:16], (claimed or "missing")[:16], remedy)


def read_metadata(path: Path, remedy: str = REMEDY) -> Any:
    """Return the JSON in a sealed Parquet file's footer, or None where there is none.

    Raises DataError when the file is missing, or its footer was changed.
    """
    try:
        metadata = pq.read_metadata(path)
        with path.open("rb") as handle:
            handle.seek(_footer_start(handle))
            _claimed(path, metadata, handle.read(), remedy)
        raw = (metadata.metadata or {}).get(METADATA_KEY)
        return None if raw is None else json.loads(raw)
    except (OSError, pa.ArrowException, ValueError, RecursionError) as error:
        raise _unreadable(path, error, remedy) from error


def _footer_start(handle: BinaryIO) -> int:
    """Return where the footer of an open Parquet file begins."""
    end = handle.seek(-_TAIL.size, os.SEEK_END)
    length, magic = _TAIL.unpack(handle.read(_TAIL.size))
    if magic != b"PAR1" or length > end:
        raise OSError(0, "it is no Parquet file, or is cut")
    return end - int(length)


def _footer_start_of(data: bytes) -> int:
    length, _ = _TAIL.unpack(data[-_TAIL.size :])
    return len(data) - _TAIL.size - int(length)


def _claimed(path: Path, metadata: pq.FileMetaData, footer: bytes, remedy: str) -> str | None:
    """Return the fingerprint in a footer, if there is one; raises DataError for another footer.

    Files of before footers were sealed have one of the bytes before the footer alone.
    """
    claim: bytes = (metadata.metadata or {}).get(FINGERPRINT_KEY) or b""
    before, own = claim[:_HEX].decode("ascii", "replace"), claim[_HEX:]
    if own:
        found = hashlib.sha256(footer.replace(claim, claim[:_HEX] + _BLANK)).hexdigest()
        claimed = own.decode("ascii", "replace")
        if found != claimed:
            raise _differs(path, "footer's fingerprint", found, claimed, remedy)
    return before or None


def _differs(path: Path, what: str, found: str, expected: str, remedy: str) -> DataError:
    return DataError(
        f"{path} is not the file that was written: its {what} is {found}, expected "
        f"{expected}. {remedy}"
    )


def _unreadable(path: Path, error: BaseException, remedy: str) -> DataError:
    return error if isinstance(error, DataError) else unreadable(path, error, remedy)
