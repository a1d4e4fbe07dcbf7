"""Sealed Parquet files: whatever changes in one is noticed, and both fingerprints are told."""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mads.errors import DataError
from mads.sealed import (
    FINGERPRINT_KEY,
    Seal,
    check_seal,
    check_sealed,
    read_metadata,
    read_seal,
    read_sealed,
    sealed_writer,
    write_sealed,
)

TABLE = pa.table({"n": np.arange(5000), "word": [f"word {i}" for i in range(5000)]})
CHANGED = r"f\.parquet is not the file that was written: its "
FINGERPRINTS = CHANGED + r"fingerprint is [0-9a-f]{16}, expected [0-9a-f]{16}\. Delete it, if it is"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with sealed_writer(tmp_path / "f.parquet", TABLE.schema) as writer:
        for _ in range(3):
            writer.write_table(TABLE, row_group_size=2000)
    return tmp_path / "f.parquet"


def test_a_sealed_file_is_plain_parquet(path: Path) -> None:
    whole = pa.concat_tables([TABLE] * 3)
    assert pq.read_table(path).equals(whole)
    assert read_sealed(path).equals(whole)
    assert read_sealed(path, ["n"], read_seal(path)).column_names == ["n"]
    check_seal(path, read_seal(path))
    check_sealed(path, read_seal(path))


def test_metadata_lies_in_the_footer(tmp_path: Path) -> None:
    write_sealed(tmp_path / "f.parquet", TABLE, {"a": [1, "é"]})
    assert pq.read_metadata(tmp_path / "f.parquet").metadata[b"mads"] == b'{"a": [1, "\\u00e9"]}'
    assert read_sealed(tmp_path / "f.parquet").num_rows == 5000


def test_the_same_content_is_the_same_file(path: Path, tmp_path: Path) -> None:
    write_sealed(tmp_path / "a.parquet", TABLE)
    write_sealed(tmp_path / "b.parquet", TABLE)
    write_sealed(tmp_path / "c.parquet", TABLE.slice(1))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    a, b, c = (read_seal(tmp_path / f"{name}.parquet") for name in "abc")
    assert a == b != c


def test_nothing_is_left_of_a_file_that_failed(tmp_path: Path) -> None:
    def fail() -> None:
        with sealed_writer(tmp_path / "f.parquet", TABLE.schema) as writer:
            writer.write_table(TABLE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at", [4, 1000, 20_000])
def test_one_flipped_bit_is_noticed_by_whoever_reads_the_whole(path: Path, at: int) -> None:
    seal = read_seal(path)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    for expected in (None, seal):
        with pytest.raises(DataError, match=FINGERPRINTS):
            read_sealed(path, expected=expected)
    with pytest.raises(DataError, match=FINGERPRINTS):
        check_sealed(path, seal)
    check_seal(path, seal)  # which is cheap, and promises no more


def test_another_file_of_the_same_shape_is_noticed_from_its_footer(path: Path) -> None:
    seal = read_seal(path)
    other = TABLE.set_column(0, "n", pa.array(np.arange(5000)[::-1]))
    with sealed_writer(path, TABLE.schema) as writer:
        for _ in range(3):
            writer.write_table(other, row_group_size=2000)
    read_sealed(path)
    for read in (check_seal, check_sealed, lambda p, s: read_sealed(p, expected=s)):
        with pytest.raises(DataError, match=FINGERPRINTS):
            read(path, seal)


def test_a_size_that_differs_is_told(path: Path) -> None:
    seal = read_seal(path)
    with pytest.raises(DataError, match=CHANGED + rf"size is {seal.size} bytes, expected 7 bytes"):
        check_seal(path, Seal(7, seal.sha256))


def test_a_file_without_a_fingerprint_is_refused(path: Path) -> None:
    seal = read_seal(path)
    pq.write_table(TABLE, path)
    with pytest.raises(DataError, match=FINGERPRINTS):
        check_seal(path, seal)
    with pytest.raises(DataError, match=CHANGED + r"fingerprint is [0-9a-f]{16}, expected one in"):
        read_sealed(path)
    with pytest.raises(DataError, match=FINGERPRINTS):
        read_sealed(path, expected=seal)


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    write_sealed(path, TABLE.slice(0, 20), {"a": 1})
    seal, whole = read_seal(path), path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DataError, match=r"f\.parquet "):
            read_sealed(path, expected=seal)
        with pytest.raises(DataError, match=r"f\.parquet "):
            check_sealed(path, seal)


def test_every_flipped_byte_is_noticed_before_a_seal_is_known(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    write_sealed(path, TABLE.slice(0, 20), {"a": 1})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DataError, match=r"f\.parquet "):
            read_sealed(path)
        with suppress(DataError):  # None is no header, which its reader refuses
            assert read_metadata(path) in (None, {"a": 1})
    path.write_bytes(whole)
    assert read_metadata(path) == {"a": 1}


def test_a_file_of_before_footers_were_sealed_is_read(path: Path) -> None:
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    claim = pq.read_metadata(path).metadata[FINGERPRINT_KEY]
    assert claim[:64].decode() == hashlib.sha256(whole[:footer]).hexdigest()
    # In Thrift's compact protocol a text's length of 128 is two bytes, one of 64 is one.
    old = whole[footer:-8].replace(b"\x80\x01" + claim, b"\x40" + claim[:64])
    path.write_bytes(whole[:footer] + old + len(old).to_bytes(4, "little") + b"PAR1")
    assert pq.read_metadata(path).metadata[FINGERPRINT_KEY] == claim[:64]
    assert read_sealed(path).equals(pa.concat_tables([TABLE] * 3))
    assert read_metadata(path) is None
    path.write_bytes(bytes([*path.read_bytes()[:9], whole[9] ^ 1, *path.read_bytes()[10:]]))
    with pytest.raises(DataError, match=FINGERPRINTS):
        read_sealed(path)


def test_any_other_file_is_known_by_all_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "f.sum"
    path.write_bytes(b"some bytes")
    seal = read_seal(path)
    check_sealed(path, seal)
    path.write_bytes(b"same Bytes")
    for check in (check_seal, check_sealed):
        with pytest.raises(DataError, match=r"f\.sum is not the file that was written: its"):
            check(path, seal)


def test_the_remedy_is_to_delete_only_where_the_file_is_damaged(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, remedy in (
        (errno.EMFILE, "limit of open files"),
        (errno.EACCES, "no permission"),
        (errno.EIO, "disk does not answer"),
    ):

        def refuse(*_: object, number: int = number, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", refuse)
            with pytest.raises(
                DataError, match=rf"f\.parquet cannot be read: .*{remedy}"
            ) as caught:
                read_seal(path)
        assert "Delete" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all", None])
def test_a_file_that_is_damaged_or_gone_says_what_to_do(path: Path, content: bytes | None) -> None:
    seal = read_seal(path)
    whole = path.read_bytes()
    path.unlink()
    for data in (content, whole[:-1] if content else content):
        if data is not None:
            path.write_bytes(data)
        for read in (read_seal, read_sealed, lambda p: check_sealed(p, seal)):
            with pytest.raises(
                DataError, match=r"f\.parquet cannot be read: .*\. Delete it, if it is there, and"
            ):
                read(path)
