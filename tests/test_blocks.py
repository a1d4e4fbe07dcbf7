"""Checksums by blocks: a changed byte is found where it is read, and only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mads.blocks import BLOCK, Verifier, block_sums, read_sums, write_sums
from mads.errors import DataError

REMEDY = "Make it anew."


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, size in zip(paths, (3 * BLOCK + 5, 0, BLOCK), strict=True):
        path.write_bytes(rng.bytes(size))
    write_sums(tmp_path / "sums", paths)
    return paths


def test_each_file_has_its_blocks(files: list[Path], tmp_path: Path) -> None:
    sums = read_sums(tmp_path / "sums", files, REMEDY)
    assert [len(of) for of in sums] == [4, 0, 1]
    assert (tmp_path / "sums").stat().st_size == 4 * 5
    for path, of in zip(files, sums, strict=True):
        assert block_sums(path).tolist() == of.tolist()


def test_a_changed_byte_is_found_where_it_is_read(files: list[Path], tmp_path: Path) -> None:
    (sums, _, _) = read_sums(tmp_path / "sums", files, REMEDY)
    data = bytearray(files[0].read_bytes())
    data[2 * BLOCK + 7] ^= 1
    files[0].write_bytes(data)
    verifier = Verifier(files[0], sums, REMEDY)
    with files[0].open("rb") as handle:
        file = handle.fileno()
        verifier.check(file, 0, 2 * BLOCK)
        verifier.check(file, 3 * BLOCK, len(data))
        verifier.check(file, 5, 5)
        message = rf"a is damaged: its bytes {2 * BLOCK:,} to {3 * BLOCK:,} are not .*Make it anew"
        for start, stop in ((2 * BLOCK - 1, 2 * BLOCK + 1), (3 * BLOCK - 1, 3 * BLOCK)):
            with pytest.raises(DataError, match=message):
                verifier.check(file, start, stop)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("bad", [0, 7, 20, 39])
def test_many_spans_are_compared_by_several_threads(
    tmp_path: Path, bad: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mads.blocks.BLOCKS_PER_THREAD", 2)
    path = tmp_path / "file"
    data = bytearray(np.random.default_rng(0).bytes(40 * BLOCK - 9))
    path.write_bytes(data)
    sums = block_sums(path)
    data[bad * BLOCK + bad] ^= 1
    path.write_bytes(data)
    start, stop = bad * BLOCK, min((bad + 1) * BLOCK, len(data))
    around = [(0, start)] * (bad > 0) + [(stop, len(data))] * (stop < len(data))
    with path.open("rb") as file:
        Verifier(path, sums, REMEDY).check_spans(file.fileno(), np.array(around), threads)
        spans = np.array([*around, (stop - 1, stop)])
        with pytest.raises(DataError, match=rf"its bytes {start:,} to {stop:,} are not"):
            Verifier(path, sums, REMEDY).check_spans(file.fileno(), spans, threads)


def test_a_block_is_compared_once(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sums, _, _) = read_sums(tmp_path / "sums", files, REMEDY)
    verifier, size = Verifier(files[0], sums, REMEDY), files[0].stat().st_size
    with files[0].open("rb") as file:
        verifier.check(file.fileno(), 0, size)
        monkeypatch.setattr("zlib.crc32", lambda _: pytest.fail("read again"))
        verifier.check(file.fileno(), 0, size)


def test_sums_that_do_not_fit_or_are_gone_are_told(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found 4 blocks of 64 KiB, but sums has sums of 5\. Make"):
        read_sums(tmp_path / "sums", files[:1], REMEDY)
    files[0].unlink()
    with pytest.raises(DataError, match=r"a cannot be read: No such file or directory\. Make it"):
        read_sums(tmp_path / "sums", files, REMEDY)
