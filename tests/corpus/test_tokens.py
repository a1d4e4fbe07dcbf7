"""Token files are the Megatron format to the byte, and damaged ones are refused."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mads.corpus.tokens import TokenChecks, TokenReader, TokenWriter, write_token_sums
from mads.errors import DataError

ROWS = [[5, 6, 7], [], [65_535], list(range(100)), [], [0]]


def write(folder: Path, rows: list[list[int]], vocab_size: int) -> tuple[Path, Path]:
    paths = folder / "s.bin", folder / "s.idx"
    with TokenWriter(*paths, vocab_size) as writer:
        for row in rows:
            writer.add(row)
    return paths


def megatron_read(bin_path: Path, idx_path: Path) -> tuple[list[list[int]], list[int]]:
    """Read the format by its specification, with nothing of mads: sequences, document bounds."""
    raw = idx_path.read_bytes()
    assert raw[:9] == b"MMIDIDX\x00\x00"
    (version,) = struct.unpack_from("<Q", raw, 9)
    (code,) = struct.unpack_from("<B", raw, 17)
    sequences, documents = struct.unpack_from("<QQ", raw, 18)
    assert version == 1
    letter = {4: "i", 8: "H"}[code]
    lengths = struct.unpack_from(f"<{sequences}i", raw, 34)
    offsets = struct.unpack_from(f"<{sequences}q", raw, 34 + 4 * sequences)
    bounds = struct.unpack_from(f"<{documents}q", raw, 34 + 12 * sequences)
    assert len(raw) == 34 + 12 * sequences + 8 * documents
    data = bin_path.read_bytes()
    rows = [
        list(struct.unpack_from(f"<{length}{letter}", data, offset))
        for length, offset in zip(lengths, offsets, strict=True)
    ]
    return rows, list(bounds)


@pytest.mark.parametrize(("vocab_size", "width"), [(65_536, 2), (65_537, 4)])
def test_an_independent_reader_finds_the_rows(tmp_path: Path, vocab_size: int, width: int) -> None:
    paths = write(tmp_path, ROWS, vocab_size)
    rows, bounds = megatron_read(*paths)
    assert rows == ROWS
    assert bounds == list(range(len(ROWS) + 1))
    assert paths[0].stat().st_size == width * sum(map(len, ROWS))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.bin", "s.idx"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    st.lists(st.lists(st.integers(0, 60_000), max_size=8), max_size=8),
    st.sampled_from([65_536, 100_000]),
)
def test_rows_survive_the_round_trip(
    tmp_path: Path, rows: list[list[int]], vocab_size: int
) -> None:
    paths = write(tmp_path, rows, vocab_size)
    assert megatron_read(*paths)[0] == rows
    reader = TokenReader(*paths)
    assert len(reader) == len(rows)
    assert [reader.row(i).tolist() for i in range(len(rows))] == rows
    assert [reader.length(i) for i in range(len(rows))] == [len(row) for row in rows]


def test_a_part_of_a_row_is_read(tmp_path: Path) -> None:
    reader = TokenReader(*write(tmp_path, ROWS, 70_000))
    assert reader.row(3, 10, 13).tolist() == [10, 11, 12]
    assert reader.row(3, 98, 200).tolist() == [98, 99]
    assert reader.row(3, 97).tolist() == [97, 98, 99]
    assert reader.row(1, 0, 5).tolist() == []
    assert reader.row(0).dtype == np.int64


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with TokenWriter(tmp_path / "s.bin", tmp_path / "s.idx", 100) as writer:
            writer.add([1])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_token_outside_the_type_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OverflowError):
        write(tmp_path, [[65_536]], 65_536)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.idx", b"", r"s\.idx is truncated: found 0 bytes\. Delete"),
        ("s.idx", b"MMIDIDX\x00\x00", r"s\.idx is truncated: found 9 bytes"),
        ("s.idx", b"x" * 400, r"s\.idx is not a Megatron index written by mads\."),
        ("s.bin", b"123", r"s\.bin does not fit its index: found 3 bytes, expected 210\. Delete"),
    ],
)
def test_a_damaged_shard_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    paths = write(tmp_path, ROWS, 100_000 if b"x" in content else 60_000)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        TokenReader(*paths)


def test_every_truncated_index_is_refused(tmp_path: Path) -> None:
    paths = write(tmp_path, ROWS, 60_000)
    whole = paths[1].read_bytes()
    for length in range(len(whole)):
        paths[1].write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"s\.idx (cannot be read|is truncated): "):
            TokenReader(*paths)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for name in ("s.idx", "s.bin"):
        paths = write(tmp_path, ROWS, 60_000)
        (tmp_path / name).unlink()
        with pytest.raises(DataError, match=rf"{name} cannot be read: No such file or directory"):
            TokenReader(*paths)


def test_a_reader_that_cannot_open_its_second_file_leaves_none_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write(tmp_path, ROWS, 60_000)
    paths[1].unlink()
    opened: set[int] = set()
    real_open, real_close = os.open, os.close

    def tracked(path: Path, flags: int) -> int:
        file = real_open(path, flags)
        opened.add(file)
        return file

    def close(file: int) -> None:
        opened.discard(file)
        real_close(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", tracked)
        patch.setattr(os, "close", close)
        with pytest.raises(DataError, match=r"s\.idx cannot be read"):
            TokenReader(*paths)
    assert not opened


@pytest.mark.parametrize("checked", [False, True])
def test_a_disk_that_does_not_answer_is_named_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checked: bool
) -> None:
    paths = write(tmp_path, ROWS, 60_000)
    write_token_sums(*paths)
    checks = TokenChecks(*paths) if checked else None
    reader = TokenReader(*paths, checks)
    lengths = {reader.length(3)}  # the index is compared already

    def silent(file: int, size: int, start: int) -> bytes:
        if os.path.samestat(os.fstat(file), paths[0].stat()):
            raise OSError(errno.EIO, "Input/output error")
        return pread(file, size, start)

    pread = os.pread
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", silent)
        message = (
            r"s\.bin cannot be read at byte \d+: Input/output error\. The disk does not answer"
        )
        with pytest.raises(DataError, match=message):
            reader.row(3)
    assert lengths == {len(reader.row(3))}


def test_every_flipped_byte_is_noticed_before_it_counts(tmp_path: Path) -> None:
    bin_path, idx_path = write(tmp_path, ROWS, 60_000)
    write_token_sums(bin_path, idx_path)
    for path in (bin_path, idx_path):
        whole = path.read_bytes()
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            checks = TokenChecks(bin_path, idx_path)
            with pytest.raises(DataError, match=rf"{path.name} is damaged: its bytes 0 to "):
                TokenReader(bin_path, idx_path, checks).row(3)
        path.write_bytes(whole)
    reader = TokenReader(bin_path, idx_path, TokenChecks(bin_path, idx_path))
    assert [reader.row(i).tolist() for i in range(len(ROWS))] == ROWS


def test_sums_of_another_size_are_refused(tmp_path: Path) -> None:
    bin_path, idx_path = write(tmp_path, ROWS, 60_000)
    write_token_sums(bin_path, idx_path)
    bin_path.write_bytes(bin_path.read_bytes() * 1000)
    with pytest.raises(DataError, match=r"found 5 blocks of 64 KiB, but s\.sum has sums of 2\."):
        TokenChecks(bin_path, idx_path)
