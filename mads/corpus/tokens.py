"""Token files that other trainers read unchanged: the Megatron indexed data set (MMIDIDX).

A shard is ``.bin`` (all tokens, uint16 or int32) and ``.idx`` (little endian): magic
``MMIDIDX\\0\\0``, version uint64 = 1, type code uint8 (8 = uint16, 4 = int32), number of
sequences uint64, number of documents + 1 uint64, sequence lengths int32, byte offsets int64,
document bounds int64. Here every corpus row is one sequence and one document, so that row i is
sequence i; a row without tokens is a sequence of length 0. A store's shards also have ``.sum``,
the checksums of both by blocks (``mads/blocks.py``).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mads.blocks import Verifier, read_at, read_sums, write_sums
from mads.errors import DataError
from mads.files import PARTIAL, publish, unreadable

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")
LENGTH, OFFSET = struct.Struct("<i"), struct.Struct("<q")
TYPE_CODES: dict[int, type[np.uint16] | type[np.int32]] = {8: np.uint16, 4: np.int32}
REMEDY = (
    "Delete it with the .bin, .idx and .sum of its name and run the same `mads annotate` again; "
    "it makes them anew."
)


class TokenWriter:
    """Writes one shard; the files appear under their names when the block ends without error."""

    def __init__(self, bin_path: Path, idx_path: Path, vocab_size: int) -> None:
        self._code = 8 if vocab_size <= 2**16 else 4
        self._paths = (bin_path, idx_path)
        bin_path.parent.mkdir(parents=True, exist_ok=True)
        self._partial = bin_path.with_name(bin_path.name + PARTIAL)
        self._bin: BinaryIO = self._partial.open("wb")
        self._lengths: list[int] = []

    def add(self, tokens: Sequence[int] | NDArray[np.int64]) -> None:
        """Append one row's tokens (none for a row without text)."""
        self._bin.write(np.asarray(tokens, dtype=TYPE_CODES[self._code]).tobytes())
        self._lengths.append(len(tokens))

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bin.close()
        if kind is not None:
            self._partial.unlink(missing_ok=True)
            return
        bin_path, idx_path = self._paths
        publish(self._partial, bin_path)
        partial = idx_path.with_name(idx_path.name + PARTIAL)
        partial.write_bytes(self._index())
        publish(partial, idx_path)

    def _index(self) -> bytes:
        num = len(self._lengths)
        lengths = np.asarray(self._lengths, dtype=np.int32)
        itemsize = np.dtype(TYPE_CODES[self._code]).itemsize
        ends = np.cumsum(lengths, dtype=np.int64) * itemsize
        offsets = np.concatenate(([0], ends[:-1])).astype(np.int64) if num else ends
        bounds = np.arange(num + 1, dtype=np.int64)
        header = HEADER.pack(MAGIC, 1, self._code, num, num + 1)
        return header + lengths.tobytes() + offsets.tobytes() + bounds.tobytes()


def write_token_sums(bin_path: Path, idx_path: Path) -> None:
    """Write the checksums of a shard's token files beside them."""
    write_sums(sums_path(bin_path), [bin_path, idx_path])


def sums_path(bin_path: Path) -> Path:
    """Return the file of a shard's checksums."""
    return bin_path.with_suffix(".sum")


class TokenChecks:
    """What is known of a shard's files: their checksums, and which blocks were compared."""

    def __init__(self, bin_path: Path, idx_path: Path) -> None:
        of_bin, of_idx = read_sums(sums_path(bin_path), [bin_path, idx_path], REMEDY)
        self.tokens = Verifier(bin_path, of_bin, REMEDY)
        self.index = Verifier(idx_path, of_idx, REMEDY)


class TokenReader:
    """Reads rows of one shard; two files are open until it is closed.

    With ``checks`` every block is compared with its checksum before anything of it counts. Raises
    DataError for files that are missing, damaged or do not fit each other.
    """

    def __init__(self, bin_path: Path, idx_path: Path, checks: TokenChecks | None = None) -> None:
        self._paths, self._checks = (bin_path, idx_path), checks
        self._files: list[int] = []
        try:
            for path in self._paths:
                self._files.append(os.open(path, os.O_RDONLY))
            self._sizes = [os.fstat(file).st_size for file in self._files]
        except OSError as error:
            self.close()
            raise unreadable(error.filename, error, REMEDY) from error
        self._read_header()

    def _read_header(self) -> None:
        bin_path, idx_path = self._paths
        bin_bytes, idx_bytes = self._sizes
        try:
            magic, version, code, num, _ = HEADER.unpack(self._index(0, HEADER.size))
        except struct.error as error:
            raise DataError(
                f"{idx_path} is truncated: found {idx_bytes} bytes. {REMEDY}"
            ) from error
        if magic != MAGIC or version != 1 or code not in TYPE_CODES:
            raise DataError(f"{idx_path} is not a Megatron index written by mads.")
        if idx_bytes != HEADER.size + 20 * num + 8:
            raise DataError(
                f"{idx_path} is truncated: found {idx_bytes} bytes, expected "
                f"{HEADER.size + 20 * num + 8}. {REMEDY}"
            )
        self._num: int = num
        self._dtype = np.dtype(TYPE_CODES[code])
        expected = 0
        if num:
            first, length = self._place(num - 1)
            expected = first + length * self._dtype.itemsize
        if bin_bytes != expected:
            raise DataError(
                f"{bin_path} does not fit its index: found {bin_bytes} bytes, "
                f"expected {expected}. {REMEDY}"
            )

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.pop())

    def __del__(self) -> None:
        self.close()

    def __len__(self) -> int:
        return self._num

    def length(self, row: int) -> int:
        """Return the number of a row's tokens."""
        _, length = self._place(row)
        return int(length)

    def row(self, row: int, start: int = 0, stop: int | None = None) -> NDArray[np.int64]:
        """Return the tokens [start, stop) of a row."""
        first, length = self._place(row)
        stop = length if stop is None else min(stop, length)
        begin, end = first + start * self._dtype.itemsize, first + stop * self._dtype.itemsize
        if self._checks is not None:
            self._checks.tokens.check(self._files[0], begin, end)
        part = read_at(self._files[0], self._paths[0], begin, max(end - begin, 0), REMEDY)
        return np.frombuffer(part, dtype=self._dtype).astype(np.int64)

    @property
    def dtype(self) -> np.dtype[Any]:
        """What a token is in the file."""
        return self._dtype

    def offset(self, row: int) -> int:
        """Return where a row's tokens begin in the bin file, in bytes."""
        place = HEADER.size + 4 * self._num + 8 * row
        (first,) = OFFSET.unpack(self._index(place, place + OFFSET.size))
        return int(first)

    def read_into(self, out: memoryview, begin: int) -> None:
        """Fill ``out`` with the bytes of the bin file from ``begin`` on.

        It is the fast way to many parts of rows, whose places the caller knows.
        """
        if self._checks is not None:
            self._checks.tokens.check(self._files[0], begin, begin + len(out))
        try:
            found = os.preadv(self._files[0], [out], begin)
        except OSError as error:
            raise unreadable(self._paths[0], error, REMEDY, f" at byte {begin:,}") from error
        if found != len(out):
            raise DataError(
                f"{self._paths[0]} ends too early: found {found} bytes at {begin:,}, expected "
                f"{len(out)}. {REMEDY}"
            )

    def _place(self, row: int) -> tuple[int, int]:
        """Return where a row's tokens begin in the bin file, in bytes, and how many there are."""
        place = HEADER.size + 4 * row
        (length,) = LENGTH.unpack(self._index(place, place + LENGTH.size))
        return self.offset(row), length

    def _index(self, start: int, stop: int) -> bytes:
        if self._checks is not None:
            self._checks.index.check(self._files[1], start, stop)
        return read_at(self._files[1], self._paths[1], start, stop - start, REMEDY)
