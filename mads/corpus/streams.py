"""The bytes of a corpus file, decompressed: plain, gzip, zstd, bzip2 or xz, told by the suffix.

Nothing is ever held whole. Reading raises OSError where the bytes are damaged or cut off.
"""

from __future__ import annotations

import hashlib
import io
import lzma
from typing import Any, BinaryIO, Protocol

import pyarrow as pa

from mads.corpus.places import Place, Remote, open_raw
from mads.errors import DataError

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz"}
CHUNK_BYTES = 1024 * 1024
HEAD_BYTES = 4096
BOM = b"\xef\xbb\xbf"  # some editors begin a UTF-8 file with it; it is no part of the first row


class Stream(Protocol):
    """What is read of a file, from its beginning on."""

    def read(self, size: int) -> bytes:
        """Return up to so many bytes; none at the end."""

    def seek(self, place: int) -> object:
        """Go to a place; of plain files only."""

    def __enter__(self) -> Stream: ...

    def __exit__(self, *_: object) -> object: ...


def compression_of(name: str) -> str | None:
    """Return how a file is compressed as a whole, by its name; None for not at all."""
    return next((kind for suffix, kind in COMPRESSIONS.items() if name.endswith(suffix)), None)


def open_stream(path: Place, raw: Any = None) -> Stream:
    """Open a file, decompressed; ``raw`` are its bytes where they are open already."""
    kind = compression_of(path.name)
    if kind == "xz":
        return _Xz(raw or open_raw(path))
    if isinstance(path, Remote):
        raw = raw or open_raw(path)
    stream: Stream = pa.input_stream(raw or str(path), compression=kind)
    return stream


class _Xz:
    """A stream of xz; Arrow has none."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self._file = raw, lzma.LZMAFile(raw)  # noqa: SIM115

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except EOFError as error:
            raise OSError("Truncated compressed stream") from error
        except lzma.LZMAError as error:
            raise OSError(f"xz decompress failed: {error}") from error

    def seek(self, place: int) -> object:
        raise NotImplementedError(place)

    def __enter__(self) -> _Xz:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._raw.close()


class Hashing(io.RawIOBase):
    """The bytes of a file, of which the sha256 is taken while they are read."""

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__()
        self._raw, self._sha256 = raw, hashlib.sha256()

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to so many bytes."""
        part = self._raw.read(size)
        self._sha256.update(part)
        return part

    def close(self) -> None:
        """Leave the file open, for what is left of it."""

    def sha256(self) -> str:
        """Return the sha256 of the whole file; what was not read yet is read now."""
        while self.read(CHUNK_BYTES):
            pass
        return self._sha256.hexdigest()


def skip(stream: Stream, num_bytes: int, *, seekable: bool) -> None:
    """Go to a place of a stream that was just opened."""
    if seekable and num_bytes:
        stream.seek(num_bytes)
        return
    while num_bytes:
        chunk = stream.read(min(num_bytes, CHUNK_BYTES))
        if not chunk:
            return
        num_bytes -= len(chunk)


def damaged(path: Place, error: Exception) -> DataError:
    """Return the error for a file that cannot be read to its end."""
    reason = str(error).splitlines()[0].rstrip(".")
    return DataError(f"{path} is damaged or truncated: {reason}. Copy it again, or leave it out.")
