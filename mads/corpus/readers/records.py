"""Files that are a stream of records: JSON lines, a JSON array, CSV.

stream -> pieces (one record's bytes each) -> records -> rows. RAM is bounded: a record far longer
than ``max_doc_bytes`` is skipped without being held.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from mads.corpus.places import Place, open_raw
from mads.corpus.readers.reader import (
    Extent,
    Row,
    RowFormat,
    make_row,
    paths_of,
    without_text,
)
from mads.corpus.streams import Hashing, Stream, open_stream
from mads.types import Status

HELD_BYTES = 16 * 1024 * 1024  # of a record whose fields are looked at


@dataclass(frozen=True, slots=True)
class Piece:
    """One record: its bytes (None where they are too many), their number, where they begin."""

    data: bytes | None
    length: int
    start: int


class RecordReader:
    """A kind of file that a splitter cuts into records."""

    def pieces(self, path: Place, max_bytes: int, first_byte: int = 0) -> Iterator[Piece]:
        """Yield the records from a place on, which is 0 or where a record begins."""
        with open_stream(path) as stream:
            yield from self.split(path, stream, max_bytes, first_byte)

    def split(
        self, path: Place, stream: Stream, max_bytes: int, first_byte: int
    ) -> Iterator[Piece]:
        """Yield the records of a stream that was just opened."""
        raise NotImplementedError

    def parse(self, data: bytes) -> object:
        """Return a record's value; raises ValueError or RecursionError for what is none."""
        return json.loads(data.decode("utf-8"))

    def parser(self, path: Place) -> RecordReader:
        """Return what parses the records of a file, which its beginning may decide."""
        del path
        return self

    def scan(self, path: Place, shard_docs: int) -> Extent:
        """Count and fingerprint a file in one pass."""
        with open_raw(path) as raw:
            whole = Hashing(raw)
            with open_stream(path, whole) as stream:
                counted = self.count(path, Counting(stream), shard_docs)
            return Extent(*counted[:2], whole.sha256(), counted[2])

    def count(
        self, path: Place, stream: Counting, shard_docs: int
    ) -> tuple[int, int, tuple[int, ...]]:
        """Return the numbers of records and bytes, and where every ``shard_docs``-th begins."""
        firsts, num_rows = [], 0
        for piece in self.split(path, stream, -1, 0):
            if num_rows % shard_docs == 0:
                firsts.append(piece.start)
            num_rows += 1
        return num_rows, stream.num_bytes, tuple(firsts) or (0,)

    def rows(
        self, path: Place, name: str, first_row: int, first_byte: int, row_format: RowFormat
    ) -> Iterator[Row]:
        """Yield the rows from a place on."""
        del name, first_row  # which begins at first_byte
        parser = self.parser(path)
        for piece in parser.pieces(path, row_format.max_line_bytes, first_byte):
            yield parser.row(piece, row_format)

    def row(self, piece: Piece, row_format: RowFormat) -> Row:
        """Return a record as a row, whatever is wrong with it."""
        if piece.data is None:
            return without_text(Status.TOO_LONG, piece.length, row_format)
        if not piece.data.strip():
            return without_text(Status.EMPTY, piece.length, row_format)
        try:
            record = self.parse(piece.data)
        except (ValueError, RecursionError):
            return without_text(Status.UNDECODABLE, piece.length, row_format)
        return make_row(record, row_format)

    def names(self, path: Place, num_rows: int) -> list[str]:
        """Return the fields that the first rows have."""
        parser, found = self.parser(path), dict[str, None]()
        for piece in islice(parser.pieces(path, HELD_BYTES), num_rows):
            try:
                found |= dict.fromkeys(paths_of(parser.parse(piece.data or b"")))
            except (ValueError, RecursionError):
                continue
        return list(found)

    def lines(
        self, path: Place, name: str, rows: Sequence[int], row_format: RowFormat
    ) -> Iterator[bytes]:
        """Yield the given rows (ascending), each as one line of JSON without its newline."""
        del name
        parser, wanted = self.parser(path), iter(rows)
        row = next(wanted, None)
        for number, piece in enumerate(parser.pieces(path, row_format.max_line_bytes)):
            if row is None:
                return
            if number == row:
                assert piece.data is not None
                yield parser.line(piece.data)
                row = next(wanted, None)

    def line(self, data: bytes) -> bytes:
        """Return a record as one line of JSON."""
        return json.dumps(self.parse(data), ensure_ascii=False).encode("utf-8", "surrogatepass")


class Counting:
    """A stream whose bytes are counted."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self.num_bytes = stream, 0

    def read(self, size: int) -> bytes:
        """Return up to so many bytes."""
        part = self._stream.read(size)
        self.num_bytes += len(part)
        return part

    def seek(self, place: int) -> object:
        """Go to a place."""
        return self._stream.seek(place)

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *_: object) -> None:
        return None
