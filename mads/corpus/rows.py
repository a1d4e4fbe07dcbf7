"""Corpus rows as documents: every row gives one document, whatever is wrong with it.

A row of a JSON-lines file is a line, blank or not, so row = line number - 1. RAM is bounded: a
line far longer than ``max_doc_bytes`` is skipped without being held.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mads.corpus.files import BOM, CHUNK_BYTES, COMPRESSION, damaged, open_lines, suffix_of
from mads.errors import DataError
from mads.types import DocumentBatch, Status

BATCH_DOCS = 1024
BATCH_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RowFormat:
    """What to read of a row: dotted paths to the text and to further fields."""

    text_field: str = "text"
    fields: tuple[str, ...] = ()
    max_doc_bytes: int = 4 * 1024 * 1024

    @property
    def max_line_bytes(self) -> int:
        """A JSON line may be longer than its text: escapes, and the other fields."""
        return 2 * self.max_doc_bytes + 1024 * 1024


Row = tuple[str, Status, int, list[object]]
"""Text ("" unless ok), status, bytes of UTF-8 text, one value per field."""


class RowReader:
    """Reads runs of rows of one file, in one pass as long as each begins where the last ended.

    A run that begins elsewhere opens the file anew: an uncompressed one at ``first_byte``, a
    compressed one by decompressing what stands before, a Parquet file at the row group.
    """

    def __init__(self, path: Path, row_format: RowFormat) -> None:
        self.path = path
        self.row_format = row_format
        self._rows: Iterator[Row] = iter(())
        self._next = -1  # the row that comes next

    def batches(
        self, first_row: int, num_rows: int, first_byte: int = 0
    ) -> Iterator[DocumentBatch]:
        """Yield the rows [first_row, first_row + num_rows) as batches, in order.

        ``first_byte`` is where the first row begins in the uncompressed text (of JSON lines).
        Raises DataError when the file is damaged or holds fewer rows.
        """
        if first_row != self._next:
            self._rows = _rows(self.path, first_row, first_byte, self.row_format)
        self._next = -1  # unless this run comes to its end
        batch: list[Row] = []
        held = seen = 0
        for row in islice(self._rows, num_rows):
            batch.append(row)
            seen += 1
            held += row[2]
            if len(batch) == BATCH_DOCS or held >= BATCH_BYTES:
                yield _to_batch(batch, self.row_format.fields)
                batch, held = [], 0
        if batch:
            yield _to_batch(batch, self.row_format.fields)
        if seen != num_rows:
            raise DataError(
                f"{self.path} changed while it was read: found {first_row + seen} rows, "
                f"expected at least {first_row + num_rows}."
            )
        self._next = first_row + num_rows


def raw_lines(path: Path, rows: Sequence[int], max_line_bytes: int) -> Iterator[bytes]:
    """Yield the given rows (ascending) of a JSON lines file, without their newline."""
    wanted = iter(rows)
    row = next(wanted, None)
    for number, (line, _) in enumerate(_lines(path, max_line_bytes)):
        if row is None:
            return
        if number == row:
            assert line is not None
            yield line
            row = next(wanted, None)


def _rows(path: Path, first_row: int, first_byte: int, row_format: RowFormat) -> Iterator[Row]:
    try:
        if suffix_of(path) == ".parquet":
            yield from _parquet_rows(path, first_row, row_format)
            return
        for line, length in _lines(path, row_format.max_line_bytes, first_byte):
            yield _line_row(line, length, row_format)
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, error) from error


def _lines(path: Path, max_bytes: int, first_byte: int = 0) -> Iterator[tuple[bytes | None, int]]:
    """Yield each line and its length; None stands for a line longer than ``max_bytes``."""
    lines = _raw_lines(path, max_bytes, first_byte)
    if not first_byte:
        for line, length in islice(lines, 1):
            if line is not None and line.startswith(BOM):
                yield line[len(BOM) :], length - len(BOM)
            else:
                yield line, length
    yield from lines


def _raw_lines(path: Path, max_bytes: int, first_byte: int) -> Iterator[tuple[bytes | None, int]]:
    rest: list[bytes] = []
    held = 0
    with open_lines(path) as stream:
        _skip(stream, first_byte, seekable=COMPRESSION[suffix_of(path) or ""] is None)
        while chunk := stream.read(CHUNK_BYTES):
            *complete, tail = chunk.split(b"\n")
            for line in complete:
                length = held + len(line)
                whole = b"".join((*rest, line)) if rest else line
                yield (whole if length <= max_bytes else None), length
                rest, held = [], 0
            held += len(tail)
            rest = [*rest, tail] if held <= max_bytes else []
    if held:
        yield (b"".join(rest) if held <= max_bytes else None), held


def _skip(stream: pa.NativeFile, num_bytes: int, *, seekable: bool) -> None:
    """Go to a place of a stream that was just opened."""
    if seekable:
        stream.seek(num_bytes)
        return
    while num_bytes:
        chunk = stream.read(min(num_bytes, CHUNK_BYTES))
        if not chunk:
            return
        num_bytes -= len(chunk)


def _line_row(line: bytes | None, length: int, row_format: RowFormat) -> Row:
    nothing: list[object] = [None] * len(row_format.fields)
    if line is None:
        return "", Status.TOO_LONG, length, nothing
    if not line.strip():
        return "", Status.EMPTY, length, nothing
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return "", Status.UNDECODABLE, length, nothing
    return make_row(record, row_format)


def _parquet_rows(path: Path, first_row: int, row_format: RowFormat) -> Iterator[Row]:
    with pq.ParquetFile(path) as file:
        names = set(file.schema_arrow.names)
        wanted = (row_format.text_field, *row_format.fields)
        columns = {p if p in names else p.split(".")[0] for p in wanted} & names
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        start = 0
        for group, size in enumerate(sizes):
            seen = start
            start += size
            if start <= first_row:
                continue
            for batch in file.iter_batches(64, row_groups=[group], columns=sorted(columns)):
                low = min(max(first_row - seen, 0), len(batch))
                seen += len(batch)
                for record in _records(batch.slice(low), size):
                    yield make_row(record, row_format)


def _records(batch: pa.RecordBatch, group_rows: int) -> Iterable[dict[str, Any]]:
    """Return rows as dictionaries; text that is not valid UTF-8 stays bytes."""
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            columns[name] = column.to_pylist()
        except ValueError:
            columns[name] = [_python_value(value) for value in column]
    if not columns:
        return [{} for _ in range(min(group_rows, len(batch)))]
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def _python_value(value: pa.Scalar) -> object:
    """Return a value that pyarrow may be unable to convert, as far as it can be."""
    if isinstance(value, pa.StructScalar) and value.is_valid:
        names = [value.type.field(i).name for i in range(value.type.num_fields)]
        return {name: _python_value(value[i]) for i, name in enumerate(names)}
    try:
        return value.as_py()
    except UnicodeDecodeError:
        is_text = pa.types.is_string(value.type) or pa.types.is_large_string(value.type)
        return value.cast(pa.large_binary()).as_py() if is_text else None
    except ValueError:  # a time in nanoseconds, which Python does not have
        return str(value.cast(pa.string()))


def make_row(record: object, row_format: RowFormat) -> Row:
    """Return one parsed record as a row."""
    fields = [lookup(record, path) for path in row_format.fields]
    text = lookup(record, row_format.text_field)
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError:
            return "", Status.UNDECODABLE, len(text), fields
    if not isinstance(text, str):
        return "", Status.NO_TEXT, 0, fields
    # JSON can spell half of a surrogate pair, which no UTF-8 text can hold.
    encoded = text.encode("utf-8", "replace")
    if len(encoded) > row_format.max_doc_bytes:
        return "", Status.TOO_LONG, len(encoded), fields
    if not text.strip():
        return "", Status.EMPTY, len(encoded), fields
    return encoded.decode("utf-8"), Status.OK, len(encoded), fields


def lookup(record: object, path: str) -> object:
    """Return the value at a dotted path of nested dictionaries, or None.

    >>> lookup({"meta": {"set": "C4"}}, "meta.set")
    'C4'
    """
    if isinstance(record, dict) and path in record:
        value: object = record[path]
        return value
    for key in path.split("."):
        if not isinstance(record, dict):
            return None
        record = record.get(key)
    return record


def _to_batch(rows: Sequence[Row], names: Sequence[str]) -> DocumentBatch:
    return DocumentBatch(
        texts=[row[0] for row in rows],
        statuses=[row[1] for row in rows],
        num_bytes=[row[2] for row in rows],
        fields={name: [row[3][i] for row in rows] for i, name in enumerate(names)},
    )
