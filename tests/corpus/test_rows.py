"""Every row gives one document, whatever is wrong with it, in bounded memory."""

from __future__ import annotations

import gzip
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus.hostile import HOSTILE, PARQUET_STATUSES, hostile_parquet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mads.corpus import streams
from mads.corpus.files import scan_file
from mads.corpus.readers import reader_of, records
from mads.corpus.readers.reader import RowFormat, lookup
from mads.corpus.rows import RowReader
from mads.corpus.streams import open_stream
from mads.errors import DataError
from mads.types import DocumentBatch, Status


def read(path: Path, first: int, count: int, row_format: RowFormat) -> DocumentBatch:
    """Return all batches as one."""
    first_byte = scan_file(path, 1).first_bytes[first] if first and path.suffix != ".parquet" else 0
    batches = list(RowReader(path, row_format).batches(first, count, first_byte))
    return DocumentBatch(
        texts=[text for batch in batches for text in batch.texts],
        statuses=[status for batch in batches for status in batch.statuses],
        num_bytes=[size for batch in batches for size in batch.num_bytes],
        fields={
            name: [value for batch in batches for value in batch.fields[name]]
            for name in row_format.fields
        },
    )


def raw_lines(path: Path, rows: list[int]) -> list[bytes]:
    reader = reader_of(path)
    assert isinstance(reader, records.RecordReader)
    return list(reader.lines(path, path.name, rows, RowFormat()))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_each_hostile_line_keeps_its_row_and_has_its_status(tmp_path: Path, name: str) -> None:
    data = b"\n".join(line for line, _, _ in HOSTILE)
    path = tmp_path / name
    path.write_bytes(gzip.compress(data, 1) if name.endswith("gz") else data)
    found = read(path, 0, len(HOSTILE), RowFormat())
    assert found.statuses == [status for _, status, _ in HOSTILE]
    assert found.texts == [text for _, _, text in HOSTILE]
    assert found.num_bytes[0] == len("plain")
    assert found.num_bytes[19] == 5 * 1024 * 1024
    assert found.num_bytes[20] == len(HOSTILE[20][0])  # the line: its text was never held


def test_a_row_is_a_line_number_less_one_wherever_reading_begins(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "{i}"}}\n' if i % 3 else "\n" for i in range(3000)))
    for first, count in ((0, 3000), (1, 5), (1023, 2), (2999, 1), (1500, 0)):
        found = read(path, first, count, RowFormat())
        wanted = [str(i) if i % 3 else "" for i in range(first, first + count)]
        assert found.texts == wanted


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
@pytest.mark.parametrize("cuts", [[0, 100, 250, 400], [30, 100, 250], [0, 100, 30, 31]])
def test_runs_of_rows_are_the_same_in_one_pass_and_in_many(
    tmp_path: Path, name: str, cuts: list[int]
) -> None:
    path, lines = tmp_path / name, [json.dumps({"text": f"t{i}"}) + "\n" for i in range(400)]
    if name == "a.parquet":
        pq.write_table(pa.table({"text": [f"t{i}" for i in range(400)]}), path, row_group_size=90)
    else:
        with pa.output_stream(path, compression="detect") as stream:
            stream.write("".join(lines).encode())
    reader = RowReader(path, RowFormat())
    for first, stop in itertools.pairwise(cuts):
        count = max(stop - first, 5)
        batches = reader.batches(first, count, len("".join(lines[:first])))
        found = [text for batch in batches for text in batch.texts]
        assert found == [f"t{i}" for i in range(first, first + count)]


def test_a_pass_through_a_file_reads_each_byte_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, size = tmp_path / "a.jsonl.gz", 0
    data = b'{"text": "x"}\n' * 3000
    path.write_bytes(gzip.compress(data))
    read_from = open_stream

    class Counted:
        def __init__(self, path: Path) -> None:
            self.stream = read_from(path)

        def __enter__(self) -> Counted:
            return self

        def __exit__(self, *_: object) -> None:
            self.stream.__exit__(None, None, None)

        def read(self, length: int) -> bytes:
            nonlocal size
            chunk: bytes = self.stream.read(length)
            size += len(chunk)
            return chunk

    monkeypatch.setattr(records, "open_stream", Counted)
    monkeypatch.setattr(streams, "CHUNK_BYTES", 1000)
    reader = RowReader(path, RowFormat())
    for first in range(0, 3000, 100):
        assert sum(map(len, reader.batches(first, 100, first * 14))) == 100
    assert size <= len(data)
    assert sum(map(len, reader.batches(1500, 100, 1500 * 14))) == 100  # back: opened anew
    assert size <= len(data) + 1600 * 14 + 1000


def test_fewer_rows_than_expected_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n' * 5)
    with pytest.raises(
        DataError, match=r"a\.jsonl changed while it was read: found 5 rows, expected at least 6\."
    ):
        read(path, 2, 4, RowFormat())


def test_damage_that_comes_after_the_scan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "x"}\n' * 500)[:-9])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz is damaged or truncated: Truncated"):
        read(path, 0, 500, RowFormat())
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"a\.parquet is damaged or truncated: "):
        read(path, 0, 1, RowFormat())


def test_nested_text_and_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    records = [
        {"doc": {"body": "one"}, "meta": {"set": "C4", "n": 3}},
        {"doc": "no section", "meta": None},
        {"doc.body": "a key with a dot", "meta.set": "dotted"},
        {"doc": {"body": "two"}},
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    found = read(path, 0, 4, RowFormat("doc.body", ("meta.set", "meta.n")))
    assert found.texts == ["one", "", "a key with a dot", "two"]
    assert found.statuses == [Status.OK, Status.NO_TEXT, Status.OK, Status.OK]
    assert found.fields == {
        "meta.set": ["C4", None, "dotted", None],
        "meta.n": [3, None, None, None],
    }


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path, name: str) -> None:
    content = b'\xef\xbb\xbf{"text": "one"}\n\xef\xbb\xbf{"text": "two"}\n'
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    found = read(path, 0, 2, RowFormat())
    assert found.texts == ["one", ""]
    assert found.statuses == [Status.OK, Status.UNDECODABLE]  # at the beginning of a file only
    assert raw_lines(path, [0]) == [b'{"text": "one"}']


def test_a_file_of_a_byte_order_mark_alone_is_one_blank_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf")
    assert read(tmp_path / "a.jsonl", 0, 1, RowFormat()).statuses == [Status.EMPTY]


def test_a_blank_line_is_an_empty_row_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "one"}\n\n  \r\n{"text": "two"}\n\n')
    found = read(path, 0, 5, RowFormat(fields=("n",)))
    assert found.texts == ["one", "", "", "two", ""]
    empty = Status.EMPTY
    assert found.statuses == [Status.OK, empty, empty, Status.OK, empty]
    assert found.num_bytes == [3, 0, 3, 3, 0]
    assert raw_lines(path, [3]) == [b'{"text": "two"}']


def test_lookup_of_a_path() -> None:
    assert lookup({"a": {"b": {"c": 1}}}, "a.b.c") == 1
    assert lookup({"a": [1]}, "a.0") is None
    assert lookup(None, "a") is None
    assert lookup({"a": {}, "a.b": 2}, "a.b") == 2


def test_a_batch_keeps_only_what_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x", "n": 1}\n{"text": "", "n": 2}\n{"text": "y", "n": 3}\n')
    ok = read(path, 0, 3, RowFormat(fields=("n",))).ok()
    assert (ok.texts, ok.num_bytes, ok.fields) == (["x", "y"], [1, 1], {"n": [1, 3]})


@pytest.mark.parametrize("text_field", ["text", "doc.body"])
def test_parquet_rows_have_their_statuses(tmp_path: Path, text_field: str) -> None:
    path = tmp_path / "a.parquet"
    hostile_parquet(path)
    row_format = RowFormat(text_field, ("doc.n", "a.b", "absent"), max_doc_bytes=20)
    found = read(path, 0, 7, row_format)
    assert found.statuses == PARQUET_STATUSES
    assert found.texts == ["one", "", "", "", "five", "", "seven"]
    assert found.fields["doc.n"] == list(range(7))
    assert found.fields["a.b"] == [f"dotted {i}" for i in range(7)]
    assert found.fields["absent"] == [None] * 7


def test_parquet_is_read_from_any_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    hostile_parquet(path)
    for first in range(7):
        for count in range(8 - first):
            found = read(path, first, count, RowFormat(fields=("n",), max_doc_bytes=20))
            assert found.fields["n"] == list(range(first, first + count))
            assert found.statuses == PARQUET_STATUSES[first : first + count]
    with pytest.raises(DataError, match="changed while it was read: found 7 rows"):
        read(path, 0, 8, RowFormat())


def test_parquet_without_the_text_column_and_of_other_types(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    words = pa.array(["x", "y", "x"])
    table = pa.table(
        {
            "number": [1, 2, 3],
            "bytes": pa.array([b"fine", b"\xff", None]),
            "large": words.cast(pa.large_string()),
            "coded": words.dictionary_encode(),
        }
    )
    pq.write_table(table, path)
    nothing = [Status.NO_TEXT] * 3
    assert read(path, 0, 3, RowFormat("text")).statuses == nothing
    assert read(path, 1, 2, RowFormat("text", ("number",))).fields == {"number": [2, 3]}
    assert read(path, 0, 3, RowFormat("number")).statuses == nothing
    found = read(path, 0, 3, RowFormat("bytes"))
    assert found.statuses == [Status.OK, Status.UNDECODABLE, Status.NO_TEXT]
    assert read(path, 0, 3, RowFormat("large")).texts == ["x", "y", "x"]
    assert read(path, 0, 3, RowFormat("coded")).texts == ["x", "y", "x"]


def test_raw_lines_are_the_lines_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [f'{{"text":  "{i}", "more": [{i}]}}'.encode() for i in range(50)]
    path.write_bytes(b"\n".join(lines))
    assert raw_lines(path, [0, 7, 49]) == [lines[0], lines[7], lines[49]]
    assert raw_lines(path, []) == []


documents = st.lists(st.text(max_size=60), min_size=1, max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(texts=documents, chunk=st.integers(1, 40), limit=st.integers(1, 80))
def test_chunks_of_any_size_give_the_same_rows(
    tmp_path: Path, texts: list[str], chunk: int, limit: int
) -> None:
    """A line may be cut anywhere by a chunk's end, and be longer than what may be held."""
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": text}).encode() for text in texts]
    path.write_bytes(b"\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "CHUNK_BYTES", chunk)
        reader = reader_of(path)
        assert isinstance(reader, records.RecordReader)
        found = [(piece.data, piece.length) for piece in reader.pieces(path, limit)]
    wanted = [(line if len(line) <= limit else None, len(line)) for line in lines]
    assert found == wanted


BOMB = """
import sys
from pathlib import Path
import pyarrow as pa
from mads.corpus.files import scan_file
from mads.corpus.readers.reader import RowFormat
from mads.corpus.rows import RowReader

path = Path(sys.argv[1])
with pa.OSFile(str(path), "wb") as raw, pa.CompressedOutputStream(raw, "zstd") as stream:
    stream.write(b'{"text": "')
    for _ in range(400):
        stream.write(b"a" * 1_000_000)
    stream.write(b'"}\\n{"text": "after"}\\n')
assert path.stat().st_size < 200_000
rows = scan_file(path, 100).num_rows
for batch in RowReader(path, RowFormat()).batches(0, rows):
    print(*batch.statuses, *batch.num_bytes, *batch.texts)
# Not getrusage, whose figure begins with that of the process that started this one.
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
"""


def test_a_decompression_bomb_is_too_long_and_takes_little_memory(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BOMB, str(tmp_path / "bomb.jsonl.zst")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    bomb, after, megabytes = done.stdout.splitlines()
    assert bomb.strip() == "too_long 400000012"
    assert after == "ok 5 after"
    assert int(megabytes) < 500
