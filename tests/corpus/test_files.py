"""Corpus files are found by their own names, and damaged ones are refused, all at once."""

from __future__ import annotations

import base64
import gzip
import os
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mads.corpus import streams
from mads.corpus.files import corpus_root, find_files, scan, scan_file
from mads.corpus.places import path_below
from mads.errors import DataError, UsageError

LINES = "".join(f'{{"text": "line {i} of {i * i}"}}\n' for i in range(500)).encode()
# One frame with a checksum, as the zstd command writes it; "checksum" stands at byte 29.
CHECKED_ZST = base64.b64decode(
    "KLUv/SQyfQEAhAJ7InRleHQiOiAib25lIn0KYSBjaGVja3N1bSBmaW5kcyB0aGlzIn0KAQBmm0t/oOc+"
)


def zstd(data: bytes) -> bytes:
    buffer = pa.BufferOutputStream()
    with pa.CompressedOutputStream(buffer, "zstd") as stream:
        stream.write(data)
    return bytes(buffer.getvalue().to_pybytes())


def test_a_folder_stands_for_its_files_sorted_by_name(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl.zst", "in/c.parquet", "in/d.jsonl.gz", "x.txt", ".e.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = [path_below(str(tmp_path), str(path)) for path in find_files([tmp_path]).files]
    assert found == ["a.jsonl.zst", "b.jsonl", "in/c.parquet", "in/d.jsonl.gz"]


def test_a_file_counts_once_and_stays_where_it_was_named(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text("x")
    (tmp_path / "z.jsonl").symlink_to("b.jsonl")
    found = find_files([tmp_path / "z.jsonl", tmp_path, tmp_path / "a.jsonl"]).files
    assert [path.name for path in found] == ["z.jsonl", "a.jsonl"]


def test_a_link_to_a_file_without_a_suffix_is_read(tmp_path: Path) -> None:
    """As in a Hugging Face cache: snapshots/…/x.jsonl.gz -> blobs/<sha256>."""
    (tmp_path / "blob").write_bytes(gzip.compress(LINES))
    (tmp_path / "x.jsonl.gz").symlink_to("blob")
    (path,) = find_files([tmp_path]).files
    assert scan_file(path, 100).num_rows == 500


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.jsonl", r"missing\.jsonl does not exist\."),
        (
            "empty",
            r"empty holds no corpus file \(\.jsonl, .*\(plain or \.gz, .*\), \.parquet, \.arrow\)",
        ),
        ("x.doc", r"x\.doc has no known format: found '\.doc', expected one of \.jsonl,"),
        ("plain", r"plain has no known format: found 'no suffix', expected one of"),
        (os.fsdecode(b"bad\xff.jsonl"), r"a file's name must be UTF-8\. Rename it\."),
    ],
)
def test_a_path_that_cannot_be_used_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    for file in ("x.doc", "plain", os.fsdecode(b"bad\xff.jsonl")):
        (tmp_path / file).write_text("x")
    with pytest.raises(UsageError, match=message):
        find_files([tmp_path / name])


def test_the_folder_above_a_link_is_that_of_the_system(tmp_path: Path) -> None:
    """`link/..` is where the link leads, not the folder that the link is in."""
    for name in ("x.jsonl", "far/x.jsonl", "far/in/y.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("far/in")
    above = tmp_path / "link" / ".."
    expected = [tmp_path / "far" / "x.jsonl", tmp_path / "x.jsonl"]
    assert find_files([above / "x.jsonl", tmp_path / "x.jsonl"]).files == expected
    assert corpus_root([above / "x.jsonl", tmp_path / "x.jsonl"]) == tmp_path
    assert find_files([above]).files == [tmp_path / "far/in/y.jsonl", tmp_path / "far/x.jsonl"]
    assert corpus_root([above]) == tmp_path / "far"
    assert find_files([tmp_path / "link"]).files == [tmp_path / "link" / "y.jsonl"]


def test_a_loop_of_links_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to("b.jsonl")
    (tmp_path / "b.jsonl").symlink_to("a.jsonl")
    (tmp_path / "c.jsonl").write_bytes(LINES)
    with pytest.raises(UsageError, match=r"[ab]\.jsonl cannot be followed: .*Remove the link\."):
        find_files([tmp_path])


def test_the_root_is_what_was_given(tmp_path: Path) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    for name in ("a/deep/x.jsonl", "y.jsonl"):
        (tmp_path / name).write_bytes(LINES)
    assert corpus_root([tmp_path / "a"]) == tmp_path / "a"
    assert corpus_root([tmp_path / "a" / "deep" / "x.jsonl"]) == tmp_path / "a" / "deep"
    assert corpus_root([tmp_path / "a" / ".." / "y.jsonl", tmp_path / "a"]) == tmp_path


def test_no_path_is_no_corpus() -> None:
    with pytest.raises(UsageError, match="no corpus: give at least one file or folder"):
        find_files([])


@pytest.mark.parametrize(
    ("name", "pack"),
    [("a.jsonl", bytes), ("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", zstd)],
)
def test_lines_are_counted_with_and_without_the_last_newline(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    for data, rows in ((LINES, 500), (LINES[:-1], 500), (LINES + b"\n", 501), (b"{}", 1)):
        (tmp_path / name).write_bytes(pack(data))
        found = scan_file(tmp_path / name, 100)
        assert (found.num_rows, found.text_bytes) == (rows, len(data))


@pytest.mark.parametrize("every", [1, 7, 500, 501])
@pytest.mark.parametrize("chunk", [1, 13, 4096])
def test_a_scan_tells_where_every_kth_line_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, chunk: int
) -> None:
    monkeypatch.setattr(streams, "CHUNK_BYTES", chunk)
    for name, pack in (("a.jsonl", bytes), ("a.jsonl.gz", gzip.compress)):
        (tmp_path / name).write_bytes(pack(LINES))
        starts = [0, *(i + 1 for i, byte in enumerate(LINES) if byte == ord("\n"))]
        assert scan_file(tmp_path / name, every).first_bytes == tuple(starts[:500:every])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('[{"text": "a"},\n{"text": "b"}]', "one JSON array"),
        ('\n  [\n{"text": "a"}]', "one JSON array"),
        ('{\n  "text": "a"\n}\n', "JSON over several lines"),
        ('\ufeff{\n  "text": "a"\n}\n', "JSON over several lines"),
    ],
)
def test_json_that_is_not_one_record_a_line_is_told(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "a.jsonl").write_text(text, encoding="utf-8")
    message = rf"a\.jsonl is {what}, expected one JSON object per line\. Write it as JSON lines"
    with pytest.raises(DataError, match=message):
        scan_file(tmp_path / "a.jsonl", 100)


def test_several_compressed_frames_are_one_file(tmp_path: Path) -> None:
    for name, pack in (("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", zstd)):
        (tmp_path / name).write_bytes(pack(LINES[:999]) + pack(LINES[999:]))
        assert scan_file(tmp_path / name, 100).num_rows == 500


def test_a_fingerprint_is_of_the_bytes_on_disk(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_bytes(LINES)
    second.write_bytes(LINES)
    assert scan_file(first, 100).sha256 == scan_file(second, 100).sha256
    assert scan_file(first, 100).size == len(LINES)
    second.write_bytes(LINES.replace(b"line 7 ", b"line 8 "))
    assert scan_file(first, 100).sha256 != scan_file(second, 100).sha256


def test_parquet_rows_come_from_the_footer(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b", "c"]}), tmp_path / "a.parquet")
    assert scan_file(tmp_path / "a.parquet", 100).num_rows == 3


@pytest.mark.parametrize(("name", "pack"), [("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", zstd)])
def test_every_truncation_is_found(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    data = pack(LINES)
    path = tmp_path / name
    message = re.escape(f"{path} is damaged or truncated: Truncated compressed stream. Copy it")
    for length in (1, 2, 3, 5, 10, 17, len(data) // 2, len(data) - 9, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match=message):
            scan_file(path, 100)


def damaged_files(folder: Path) -> dict[str, str]:
    """Write one file of each kind of damage; return name -> what must be said of it."""
    table = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": ["a"] * 100}), table)
    flipped = bytearray(CHECKED_ZST)
    flipped[29] ^= 1
    files = {
        "empty.jsonl": (b"", "is empty (0 bytes). Copy it again, or leave it out."),
        "flipped.jsonl.zst": (bytes(flipped), "is damaged or truncated: ZSTD decompress failed"),
        "cut.jsonl.zst": (zstd(LINES)[:-7], "is damaged or truncated: Truncated"),
        "cut.jsonl.gz": (gzip.compress(LINES)[:-7], "is damaged or truncated: Truncated"),
        "plain.jsonl.gz": (LINES, "is damaged or truncated: zlib inflate failed"),
        "plain.jsonl.zst": (LINES, "is damaged or truncated: ZSTD decompress failed"),
        "page.jsonl": (b"\n<!DOCTYPE html><html>", "is a web page, not a corpus file. Download"),
        "page.jsonl.zst": (b"<html><body>404", "is a web page, not a corpus file."),
        "lfs.parquet": (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "is a git-LFS pointer, not the data. Run `git lfs pull`.",
        ),
        "cut.parquet": (table.getvalue().to_pybytes()[:-5], "is damaged or truncated: Parquet"),
        "lines.parquet": (LINES, "is damaged or truncated: Parquet magic bytes not found"),
    }
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    (folder / "link.jsonl").symlink_to("nowhere")
    link = {"link.jsonl": "cannot be opened: No such file or directory."}
    return {name: message for name, (_, message) in files.items()} | link


def test_a_checksum_that_fits_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.zst").write_bytes(CHECKED_ZST)
    assert scan_file(tmp_path / "a.jsonl.zst", 100).num_rows == 2


def test_all_damaged_files_are_listed_at_once(tmp_path: Path) -> None:
    expected = damaged_files(tmp_path)
    (tmp_path / "good.jsonl").write_bytes(LINES)
    with pytest.raises(DataError) as error:
        list(scan(find_files([tmp_path]).files, 100, workers=1))
    text = str(error.value)
    assert error.value.exit_code == 1
    assert text.startswith(f"{len(expected)} of {len(expected) + 1} corpus files cannot be read:")
    for name, message in expected.items():
        assert f"  - {tmp_path / name} {message}" in text
    assert "good.jsonl" not in text


def test_a_scan_keeps_the_order_of_the_files(tmp_path: Path) -> None:
    sizes = (400, 1, 200)
    for name, rows in zip("cab", sizes, strict=True):
        (tmp_path / f"{name}.jsonl").write_bytes(b"{}\n" * rows)
    files = [tmp_path / f"{name}.jsonl" for name in "cab"]
    found = list(scan(files, 100, workers=2))
    assert [(file.path, file.num_rows) for file in found] == [
        (str(path), size) for path, size in zip(files, sizes, strict=True)
    ]
