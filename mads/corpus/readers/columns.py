"""Files of columns, Parquet and Arrow: rows come in small batches, since documents may be long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mads.corpus.places import Place, open_raw, sha256_of
from mads.corpus.readers.reader import Extent, Row, RowFormat, make_row

READ_ROWS = 64

Wanted = Callable[[int, int], bool]
"""Whether any of the rows [start, stop) is wanted."""


class ColumnsReader:
    """A kind of file that has a schema."""

    def extent(self, path: Place) -> tuple[int, int]:
        """Return the numbers of rows and of uncompressed bytes."""
        raise NotImplementedError

    def schema(self, path: Place) -> pa.Schema:
        """Return the schema."""
        raise NotImplementedError

    def batches(
        self, path: Place, columns: list[str] | None, wanted: Wanted
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield batches of at most READ_ROWS rows, each with its first row's number.

        What is stored together is skipped where none of it is ``wanted``.
        """
        raise NotImplementedError

    def scan(self, path: Place, shard_docs: int) -> Extent:
        """Count and fingerprint a file."""
        del shard_docs
        return Extent(*self.extent(path), sha256_of(path))

    def rows(
        self, path: Place, name: str, first_row: int, first_byte: int, row_format: RowFormat
    ) -> Iterator[Row]:
        """Yield the rows from a place on."""
        del name, first_byte
        names = set(self.schema(path).names)
        wanted = (row_format.text_field, *row_format.fields)
        columns = {p if p in names else p.split(".")[0] for p in wanted} & names
        for start, batch in self.batches(path, sorted(columns), lambda _, stop: stop > first_row):
            for record in _records(batch.slice(min(max(first_row - start, 0), len(batch)))):
                yield make_row(record, row_format)

    def names(self, path: Place, num_rows: int) -> list[str]:
        """Return the fields of the schema, with those of structs."""
        del num_rows
        return [name for field in self.schema(path) for name in _names(field)]


def _names(field: pa.Field) -> list[str]:
    if not pa.types.is_struct(field.type):
        return [field.name]
    inner = [name for i in range(field.type.num_fields) for name in _names(field.type.field(i))]
    return [f"{field.name}.{name}" for name in inner] or [field.name]


class ParquetReader(ColumnsReader):
    """``.parquet``: the footer tells the rows; only the row groups that are wanted are read."""

    def extent(self, path: Place) -> tuple[int, int]:
        """Return what the footer says."""
        with _open_parquet(path) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            return file.metadata.num_rows, sum(group.total_byte_size for group in groups)

    def schema(self, path: Place) -> pa.Schema:
        """Return the schema."""
        with _open_parquet(path) as file:
            return file.schema_arrow

    def batches(
        self, path: Place, columns: list[str] | None, wanted: Wanted
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield batches of the row groups that are wanted."""
        with _open_parquet(path) as file:
            stop = 0
            for group in range(file.num_row_groups):
                start, stop = stop, stop + file.metadata.row_group(group).num_rows
                if wanted(start, stop):
                    for batch in file.iter_batches(READ_ROWS, row_groups=[group], columns=columns):
                        yield start, batch
                        start += len(batch)


def _open_parquet(path: Place) -> Any:
    return pq.ParquetFile(path if isinstance(path, Path) else open_raw(path))


MAGIC = b"ARROW1"  # of the file format; a stream has none
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


class ArrowReader(ColumnsReader):
    """``.arrow``: Arrow's stream format, as `datasets` writes it, or its file format (Feather)."""

    def extent(self, path: Place) -> tuple[int, int]:
        """Read all batches through; a stream has no footer, so a missing end is damage."""
        with open_raw(path) as raw:
            is_stream = not raw.read(len(MAGIC)).startswith(MAGIC)
            raw.seek(-len(END_OF_STREAM), 2)
            if is_stream and raw.read() != END_OF_STREAM:
                raise OSError("the Arrow stream has no end")
        num_rows = num_bytes = 0
        for batch in _arrow_batches(path):
            _check(batch)
            num_rows += len(batch)
            num_bytes += batch.nbytes
        return num_rows, num_bytes

    def schema(self, path: Place) -> pa.Schema:
        """Return the schema."""
        with _open_arrow(path) as reader:
            return reader.schema

    def batches(
        self, path: Place, columns: list[str] | None, wanted: Wanted
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield batches, cut small."""
        stop = 0
        for batch in _arrow_batches(path):
            start, stop = stop, stop + len(batch)
            if wanted(start, stop):
                chosen = batch if columns is None else batch.select(columns)
                _check(chosen)
                for i in range(0, len(batch), READ_ROWS):
                    yield start + i, chosen.slice(i, READ_ROWS)


def _open_arrow(path: Place) -> Any:
    """Open either format; a file of this machine is mapped, and the system keeps what it can."""
    is_here = isinstance(path, Path)
    source = pa.memory_map(str(path)) if is_here else pa.PythonFile(open_raw(path), "r")
    if source.read(len(MAGIC)) == MAGIC:
        return pa.ipc.open_file(source)
    source.seek(0)
    return pa.ipc.open_stream(source)


def _arrow_batches(path: Place) -> Iterator[pa.RecordBatch]:
    with _open_arrow(path) as reader:
        if isinstance(reader, pa.ipc.RecordBatchFileReader):
            yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
        else:
            yield from reader


def _check(batch: pa.RecordBatch) -> None:
    """Raise ArrowInvalid for places that lead out of a batch, which would end the process.

    A text that is not UTF-8 is one row's problem and no damage.
    """
    for column in batch.columns:
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
            if not text or "UTF8" not in str(error):
                raise
            wide = pa.types.is_large_string(column.type)
            column.view(pa.large_binary() if wide else pa.binary()).validate(full=True)


def _records(batch: pa.RecordBatch) -> Iterable[dict[str, Any]]:
    """Return rows as dictionaries; text that is not valid UTF-8 stays bytes."""
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            columns[name] = column.to_pylist()
        except ValueError:
            columns[name] = [_python_value(value) for value in column]
    if not columns:
        return [{} for _ in range(len(batch))]
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
