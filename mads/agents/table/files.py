"""The files of a table: which they are, what is in them, and each row's value as one number."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mads.agents.column import LARGEST_SCORE, as_number
from mads.corpus.files import CorpusFile, Found, find_files, scan
from mads.corpus.ids import id_of
from mads.corpus.look import check_fields
from mads.corpus.places import path_below, place_of
from mads.corpus.readers.reader import RowFormat
from mads.corpus.rows import RowReader
from mads.errors import DataError, UsageError, did_you_mean
from mads.types import DocumentBatch, Floats, Status
from mads.units import shorten

ATTRIBUTES = "attributes"  # Dolma's field: tagger and label -> [[start, end, score], …]
_ALL_ROWS = 2**31


@dataclass(frozen=True, slots=True)
class Values:
    """How a row of the table becomes a number.

    ``index`` has the place of every category's name; None where values are numbers themselves.
    """

    agent: str
    field: str
    attribute: str
    id: str
    index: Mapping[str, int] | None
    other: int | None
    takes_any: bool  # what is neither a category nor a number is as good as nothing

    @property
    def row_format(self) -> RowFormat:
        """What is read of a row; a table has no text."""
        id_field = self.id or ("id" if self.attribute else "")
        fields = (self.value_field, *((id_field,) if id_field else ()))
        return RowFormat("", fields)

    @property
    def value_field(self) -> str:
        """The field that holds the value."""
        return ATTRIBUTES if self.attribute else self.field

    def number(self, value: object) -> float | None:
        """Return a value as a number, NaN for none; None for a value that has no place."""
        if self.attribute:
            spans = value.get(self.attribute) if isinstance(value, dict) else None
            return span_score(spans)
        if value is None:
            return np.nan
        if self.index is not None:
            return self.index.get(str(value), self.other)
        found = as_number(value)
        if found is None:
            return np.nan if self.takes_any else None
        return found if abs(found) <= LARGEST_SCORE else None

    def expected(self, value: object) -> str:
        """Return what a value should have been."""
        if self.attribute:
            return "expected [[start, end, score], …] with finite scores"
        if self.index is None:
            return f"expected a finite number. Correct it, or set agents.{self.agent}.other"
        return (
            f"expected one of the categories ({did_you_mean(str(value), self.index)}). Add it to "
            f"agents.{self.agent}.categories (or .rename), or set agents.{self.agent}.other"
        )


def span_score(spans: object) -> float | None:
    """Return the mean of Dolma's spans [start, end, score], weighted by their lengths.

    Of spans without a length it is the plain mean. NaN where there is no span, None for anything
    else than spans.

    >>> span_score([[0, 10, 0.5], [10, 40, 0.9]])
    0.8
    """
    if spans is None or spans == []:
        return np.nan
    if not isinstance(spans, list) or not all(_is_span(span) for span in spans):
        return None
    span_S3: Floats = np.array(spans, np.float64)
    length_S = span_S3[:, 1] - span_S3[:, 0]
    weight_S = length_S if length_S.sum() > 0 else np.ones(len(spans))
    found = float((weight_S * span_S3[:, 2]).sum() / weight_S.sum())
    return found if abs(found) <= LARGEST_SCORE else None


def _is_span(span: object) -> bool:
    return (
        isinstance(span, list)
        and len(span) == 3
        and all(isinstance(x, int | float) and not isinstance(x, bool) for x in span)
        and span[0] <= span[1]
    )


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive rows of a table's file: a number for each (NaN: nothing), and its id."""

    first: int
    value_N: NDArray[np.float32]
    ids: list[str | None]


class Table:
    """The files of a table, in the order of their names."""

    def __init__(self, agent: str, paths: Sequence[str], values: Values) -> None:
        """Find the files; raises UsageError where there are none."""
        self.agent, self.values = agent, values
        self._found = self._find(agent, paths)
        self.shown = shorten(", ".join(paths))

    @staticmethod
    def _find(agent: str, paths: Sequence[str]) -> Found:
        try:
            return find_files(paths)
        except UsageError as error:
            raise UsageError(f"agents.{agent}.files: {error}") from error

    @cached_property
    def files(self) -> list[CorpusFile]:
        """The files with their rows and sha256; all of them are read for it.

        Raises DataError for damaged ones, and UsageError where no record has the fields.
        """
        found = list(scan(self._found.files, _ALL_ROWS, os.cpu_count() or 1))
        wanted = dict.fromkeys(self.values.row_format.fields, f"the table of agent {self.agent!r}")
        if self.values.attribute:
            wanted[f"{ATTRIBUTES}.{self.values.attribute}"] = wanted.pop(ATTRIBUTES)
        check_fields([place_of(file.path) for file in found if file.num_rows], wanted)
        return found

    def name_of(self, file: CorpusFile) -> str:
        """Return a file's path below the folder that all lie in."""
        return path_below(str(self._found.root), file.path)

    def content(self, *, named: bool) -> list[tuple[str, ...]]:
        """Return what the files are known by, wherever they lie."""
        if named:
            return sorted((self.name_of(file), file.sha256) for file in self.files)
        return sorted((file.sha256,) for file in self.files)

    def reader(self, path: str) -> RowReader:
        """Return what reads a file."""
        return RowReader(place_of(path), self.values.row_format)

    def rows(self, file: CorpusFile) -> Iterator[Rows]:
        """Yield all rows of a file."""
        first = 0
        for batch in self.reader(file.path).batches(0, file.num_rows):
            yield self.numbers(file.path, batch, first)
            first += len(batch)

    def numbers(self, path: str, batch: DocumentBatch, first: int) -> Rows:
        """Return rows as numbers; raises DataError for a row or a value that cannot be read."""
        name = self.values.row_format.fields[0]
        ids = batch.fields[self.values.row_format.fields[-1]]
        value_N = np.empty(len(batch), np.float32)
        for i, (value, status) in enumerate(zip(batch.fields[name], batch.statuses, strict=True)):
            if status in (Status.UNDECODABLE, Status.TOO_LONG):
                raise DataError(f"{path}: row {first + i} is {status}. Correct the table.")
            number = self.values.number(value)
            if number is None:
                raise DataError(
                    f"agent {self.agent!r}: {path}, row {first + i}: {name!r} holds "
                    f"{shorten(value)}, {self.values.expected(value)}."
                )
            value_N[i] = number
        return Rows(first, value_N, [id_of(value) for value in ids])
