"""A table that has the rows of the corpus, in their order: it is read along with the corpus.

A file of the table belongs to the corpus file whose path, without suffixes, ends with its own path
below the table's folder; so ``attributes/NAME/cc/0001.jsonl.gz`` belongs to
``documents/cc/0001.jsonl.gz``, as Dolma lays them out. One file goes with one file, whatever their
names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from mads.agents.table.files import Table
from mads.codec import Count, from_json, to_json
from mads.corpus.places import place_of
from mads.corpus.readers import reader_of, suffix_of
from mads.corpus.readers.columns import ColumnsReader
from mads.errors import DataError
from mads.files import json_sha256, read_sealed_json, write_sealed_json
from mads.types import FILE, ID, ROW, DocumentBatch
from mads.units import shorten

_NAMED = 5  # files that a message lists
_REMEDY = "Run the same command again."


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file of the table."""

    path: str
    num_rows: Count


@dataclass(frozen=True, slots=True)
class Matched:
    """The table's file of each corpus file, by its whole path."""

    files: dict[str, TableFile]


class RowOrder:
    """Finds the numbers of rows; the reader of the last file stays open."""

    def __init__(self, table: Table, matched: Matched) -> None:
        self._table, self._matched = table, matched
        self._column: _Column | None = None

    @staticmethod
    def open(folder: Path, table: Table, files: Mapping[str, int]) -> RowOrder:
        """Return the order of a table, once its files are known to fit those of the corpus.

        Raises DataError for a corpus file that has none, or one of another number of rows.
        """
        path = folder / f"{json_sha256(dict(files))[:16]}.json"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_sealed_json(path, to_json(Matched(match(table, files))))
        value = read_sealed_json(path, _REMEDY)
        return RowOrder(table, from_json(Matched, value, path, "a match of files", _REMEDY))

    def of(self, batch: DocumentBatch) -> NDArray[np.float32]:
        """Return the number of each of N documents by its file and row, NaN for none."""
        places = list(zip(batch.fields[FILE], batch.fields[ROW], strict=True))
        ids = batch.fields[ID] if self._table.values.attribute else None  # Dolma's rows have ids
        value_N = np.empty(len(places), np.float32)
        done = 0
        for file, group in groupby(places, key=lambda place: place[0]):
            rows = [row for _, row in group if isinstance(row, int)]
            source = self._matched.files[str(file)]
            if self._column is None or self._column.source != source:
                self._column = _Column(self._table, source)
            for i, row in enumerate(rows, start=done):
                value_N[i], found = self._column.at(row)
                if ids is not None and found != ids[i]:
                    raise _other_id(self._table, source.path, row, found, ids[i])
            done += len(rows)
        return value_N


def _other_id(table: Table, path: str, row: int, found: object, expected: object) -> DataError:
    return DataError(
        f"agent {table.agent!r}: {path} has the id {shorten(found)} in row {row}, where the corpus "
        f"has {shorten(expected)}: it is not in the corpus's order. Set agents.{table.agent}.id "
        'to match by ids, such as id = "id".'
    )


class _Column:
    """The rows of one file, read forwards; a step back reads it anew."""

    def __init__(self, table: Table, source: TableFile) -> None:
        self.source, self._table = source, table
        self._open(0)

    def _open(self, row: int) -> None:
        # A stream of records is read from its beginning, columns from any row.
        path = self.source.path
        begin = row if isinstance(reader_of(place_of(path)), ColumnsReader) else 0
        self._batches = self._table.reader(path).batches(begin, self.source.num_rows - begin)
        self._first = self._next = begin

    def at(self, row: int) -> tuple[float, str | None]:
        """Return the number and the id of a row."""
        if row < self._first:
            self._open(row)
        while row >= self._next:
            batch = next(self._batches)
            self._first, self._next = self._next, self._next + len(batch)
            if row < self._next:
                self._rows = self._table.numbers(self.source.path, batch, self._first)
        place = row - self._first
        return float(self._rows.value_N[place]), self._rows.ids[place]


def match(table: Table, files: Mapping[str, int]) -> dict[str, TableFile]:
    """Return the table's file of each corpus file (whole path -> rows).

    Raises DataError, with all that do not fit.
    """
    by_key = {_key(table.name_of(file)): file for file in table.files}
    names = {path: _nearest(_key(path), by_key) for path in files}
    if len(files) == len(table.files) == 1:
        names = dict.fromkeys(files, next(iter(by_key)))
    wrong, taken = list[str](), dict[str, str]()
    found: dict[str, TableFile] = {}
    for path, num_rows in files.items():
        key = names[path]
        if key is None:
            wrong.append(f"{path} has none of the same name")
            continue
        file = by_key[key]
        if file.path in taken:
            wrong.append(f"{path} and {taken[file.path]} both fit {file.path}")
        elif file.num_rows != num_rows:
            wrong.append(f"{path} has {num_rows:,} rows, {file.path} {file.num_rows:,}")
        found[path] = TableFile(file.path, file.num_rows)
        taken[file.path] = path
    if wrong:
        raise DataError(_unlike(table, wrong))
    return found


def _unlike(table: Table, wrong: Sequence[str]) -> str:
    lines = "\n".join(f"  - {line}" for line in wrong[:_NAMED])
    more = f"\n  - and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    return (
        f"agent {table.agent!r}: the table {table.shown} does not have the corpus's files row by "
        f"row:\n{lines}{more}\nGive one file for each, or set agents.{table.agent}.id to match by "
        "ids."
    )


def _key(path: str) -> tuple[str, ...]:
    place = PurePosixPath(path)
    return (*place.parent.parts, place.name.removesuffix(suffix_of(place_of(path)) or ""))


def _nearest(
    key: tuple[str, ...], known: Mapping[tuple[str, ...], object]
) -> tuple[str, ...] | None:
    """Return the longest known key that a key ends with."""
    return next((key[i:] for i in range(len(key)) if key[i:] in known), None)
