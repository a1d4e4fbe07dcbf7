"""Corpus rows as documents: every row gives one document, whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import pyarrow as pa

from mads.corpus.places import Place
from mads.corpus.readers import reader_of
from mads.corpus.readers.reader import Row, RowFormat
from mads.corpus.streams import damaged
from mads.errors import DataError
from mads.types import DocumentBatch

BATCH_DOCS = 1024
BATCH_BYTES = 8 * 1024 * 1024


class RowReader:
    """Reads runs of rows of one file, in one pass as long as each begins where the last ended.

    A run that begins elsewhere opens the file anew: an uncompressed one at ``first_byte``, a
    compressed one by decompressing what stands before, a file of columns where what is stored
    together begins. ``name`` is the file's own in the corpus.
    """

    def __init__(self, path: Place, row_format: RowFormat, name: str = "") -> None:
        self.path, self._name = path, name or path.name
        self.row_format = row_format
        self._rows: Iterator[Row] = iter(())
        self._next = -1  # the row that comes next

    def batches(
        self, first_row: int, num_rows: int, first_byte: int = 0
    ) -> Iterator[DocumentBatch]:
        """Yield the rows [first_row, first_row + num_rows) as batches, in order.

        ``first_byte`` is where the first row of a stream of records begins, uncompressed.
        Raises DataError when the file is damaged or holds fewer rows.
        """
        if first_row != self._next:
            self._rows = self._open(first_row, first_byte)
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

    def _open(self, first_row: int, first_byte: int) -> Iterator[Row]:
        try:
            yield from reader_of(self.path).rows(
                self.path, self._name, first_row, first_byte, self.row_format
            )
        except (OSError, pa.ArrowException) as error:
            raise damaged(self.path, error) from error


def _to_batch(rows: Sequence[Row], names: Sequence[str]) -> DocumentBatch:
    return DocumentBatch(
        texts=[row[0] for row in rows],
        statuses=[row[1] for row in rows],
        num_bytes=[row[2] for row in rows],
        fields={name: [row[3][i] for row in rows] for i, name in enumerate(names)},
    )
