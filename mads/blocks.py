"""Checksums of large files by blocks, so that whoever reads a part need not read the whole.

A file of sums holds one CRC-32 (uint32, little endian) for each block of 64 KiB of one or more
files, one after the other. It is small, and is itself verified by its sha256.

    100,000 bytes -> block 0 (65,536 bytes), block 1 (34,464 bytes) -> 8 bytes of sums
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mads.errors import DataError
from mads.files import atomic_path, unreadable

BLOCK = 1 << 16
BLOCKS_PER_THREAD = 64  # fewer are verified before a thread has started
SUM = np.dtype("<u4")

Sums = NDArray[np.uint32]


def block_sums(path: Path) -> Sums:
    """Return the CRC-32 of each block of a file."""
    sums = []
    with path.open("rb") as handle:
        while block := handle.read(BLOCK):
            sums.append(zlib.crc32(block))
    return np.array(sums, SUM)


def write_sums(path: Path, files: Sequence[Path]) -> None:
    """Write the sums of files, one after the other."""
    with atomic_path(path) as partial:
        np.concatenate([block_sums(file) for file in files]).astype(SUM).tofile(partial)


def read_sums(path: Path, files: Sequence[Path], remedy: str) -> list[Sums]:
    """Return the sums of each file; raises DataError when their number does not fit the files."""
    try:
        found = np.frombuffer(path.read_bytes(), np.uint8)
        counts = [-(-file.stat().st_size // BLOCK) for file in files]
    except OSError as error:
        raise unreadable(error.filename or path, error, remedy) from error
    if len(found) != SUM.itemsize * sum(counts):
        names = " and ".join(str(file) for file in files)
        raise DataError(
            f"{names}: found {sum(counts)} blocks of 64 KiB, but {path.name} has sums of "
            f"{len(found) / SUM.itemsize:g}. {remedy}"
        )
    return np.split(found.view(SUM), np.cumsum(counts)[:-1])


def read_at(file: int, path: Path, start: int, size: int, remedy: str) -> bytes:
    """Return bytes of an open file; raises DataError, with its path, when they cannot be read."""
    try:
        return os.pread(file, size, start)
    except OSError as error:
        raise unreadable(path, error, remedy, f" at byte {start:,}") from error


class Verifier:
    """Compares the blocks of a file with their sums, each block once.

    It outlives the file's being open: what was verified once is not read again.
    """

    def __init__(self, path: Path, sums: Sums, remedy: str) -> None:
        self._path, self._sums, self._remedy = path, sums, remedy
        self._checked = np.zeros(len(sums), bool)

    def check(self, file: int, start: int, stop: int) -> None:
        """Raise DataError, with the place, unless the bytes [start, stop) are as written.

        ``file`` is the descriptor of the open file.
        """
        for block in range(start // BLOCK, -(-stop // BLOCK)):
            if not self._checked[block]:
                self._check_block(file, block)

    def check_spans(self, file: int, spans: NDArray[np.int64], threads: int) -> None:
        """Do the same for many spans of bytes, shape (S, 2), several threads at once."""
        wanted = np.zeros(len(self._sums) + 1, np.int64)
        np.add.at(wanted, spans[:, 0] // BLOCK, 1)
        np.add.at(wanted, -(-spans[:, 1] // BLOCK), -1)
        blocks = np.flatnonzero((np.cumsum(wanted)[:-1] > 0) & ~self._checked)
        shares = np.array_split(blocks, max(1, min(threads, len(blocks) // BLOCKS_PER_THREAD)))
        if len(shares) == 1:
            self._check_blocks(file, blocks)
            return
        with ThreadPoolExecutor(len(shares)) as pool:  # neither reading nor CRC-32 hold the GIL
            for _ in pool.map(partial(self._check_blocks, file), shares):
                pass

    def _check_blocks(self, file: int, blocks: NDArray[np.int64]) -> None:
        for block in blocks.tolist():
            self._check_block(file, block)

    def _check_block(self, file: int, block: int) -> None:
        part = read_at(file, self._path, block * BLOCK, BLOCK, self._remedy)
        if zlib.crc32(part) != self._sums[block]:
            raise DataError(
                f"{self._path} is damaged: its bytes {block * BLOCK:,} to "
                f"{block * BLOCK + len(part):,} are not those that were written. {self._remedy}"
            )
        self._checked[block] = True
