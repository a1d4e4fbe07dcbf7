"""CSV and TSV with a header: a row is a record after it, from 0; a quoted field may hold newlines.

Quotes are read as in Python's ``csv``: they count at the beginning of a field alone, and two of
them within a quoted field are one.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator

from mads.corpus.places import Place
from mads.corpus.readers.lines import raw_lines
from mads.corpus.readers.records import Piece, RecordReader
from mads.corpus.streams import BOM, Stream, compression_of, open_stream, skip
from mads.errors import DataError

MAX_HEADER_BYTES = 1024 * 1024
MAX_LINE_BYTES = 64 * 1024 * 1024  # one is held, to see which of its quotes count
QUOTE = b'"'
csv.field_size_limit(2**31 - 1)  # a record is bounded before it is parsed


class TableReader(RecordReader):
    """``.csv`` and ``.tsv``; every value is a text, and a missing one is none."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter

    def parser(self, path: Place) -> RecordReader:
        """Return the reader of a file with this header."""
        with open_stream(path) as stream:
            header = next(self._records(stream, MAX_HEADER_BYTES, 0), None)
        return _WithHeader(self._delimiter, self._names(path, header))

    def split(
        self, path: Place, stream: Stream, max_bytes: int, first_byte: int
    ) -> Iterator[Piece]:
        """Yield each record but the header; raises OSError where a quoted field has no end."""
        skip(stream, first_byte, seekable=compression_of(path.name) is None)
        records = self._records(stream, max(max_bytes, MAX_HEADER_BYTES), first_byte)
        if not first_byte:
            self._names(path, next(records, None))
        yield from (piece if piece.length <= max_bytes else _cut(piece) for piece in records)

    def _records(self, stream: Stream, max_bytes: int, start: int) -> Iterator[Piece]:
        """Yield lines, those joined that a quoted field holds."""
        delimiter = self._delimiter.encode()
        held: list[bytes] = []
        length, quoted = 0, False
        for line in raw_lines(stream, MAX_LINE_BYTES, start):
            if not held and not length:
                start = line.start
            data = line.data
            if data is None:
                raise OSError(f"a line of {line.length} bytes is too long for a table")
            if QUOTE in data:
                quoted = _ends_quoted(data, delimiter, quoted)
            length += len(data) + (1 if length or held else 0)
            held = [*held, data] if length <= max_bytes else []
            if not quoted:
                yield Piece(b"\n".join(held) if length <= max_bytes else None, length, start)
                held, length = [], 0
        if quoted:
            raise OSError("a quoted field has no end")

    def _names(self, path: Place, header: Piece | None) -> list[str]:
        """Return the names in a header; raises DataError for what can be none."""
        problem, names = "no header", list[str]()
        if header is not None and header.data:
            try:
                text = header.data.removeprefix(BOM).decode("utf-8")
                names = next(csv.reader([text], delimiter=self._delimiter, strict=False), [])
            except (ValueError, csv.Error) as error:
                problem = f"a header that cannot be read ({error})"
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            problem = f"the column {twice[0]!r} twice"
        if not names or twice:
            raise DataError(
                f"{path} has {problem}. Its first line must name its columns, each once."
            )
        return names


class _WithHeader(TableReader):
    """A table whose columns' names are known."""

    def __init__(self, delimiter: str, names: list[str]) -> None:
        super().__init__(delimiter)
        self._columns = names

    def parse(self, data: bytes) -> object:
        """Return a record as a dictionary; raises ValueError for one with too many values."""
        try:
            values = next(csv.reader([data.decode("utf-8")], delimiter=self._delimiter), [])
        except csv.Error as error:
            raise ValueError(str(error)) from error
        if len(values) > len(self._columns):
            raise ValueError(f"{len(values)} values for {len(self._columns)} columns")
        return dict(zip(self._columns, values, strict=False))


def _cut(piece: Piece) -> Piece:
    return Piece(None, piece.length, piece.start)


def _ends_quoted(line: bytes, delimiter: bytes, quoted: bool) -> bool:
    """Tell whether a quoted field goes on behind a line that begins within one, or does not."""
    place = 0
    while True:
        if not quoted:
            if not line.startswith(QUOTE, place):
                place = line.find(delimiter, place) + 1
                if not place:
                    return False
                continue
            place += 1
        end = line.find(QUOTE, place)
        if end < 0:
            return True
        place, quoted = end + 1, line.startswith(QUOTE, end + 1)
        if quoted:  # two quotes are one within the field
            place += 1
            continue
        place = line.find(delimiter, place) + 1
        if not place:
            return False
