"""``.json``: lines, or one array of objects, told by the first byte that is no space.

An array is never held whole: a scanner of brackets and strings finds where its elements end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mads.corpus import streams
from mads.corpus.places import Place
from mads.corpus.readers.lines import LinesReader, head_of
from mads.corpus.readers.records import Counting, Piece, RecordReader
from mads.corpus.streams import Stream, compression_of, skip

# Outside of strings, what elements begin, end and consist of; inside, a backslash takes what
# follows with it, and nothing else but a quote counts.
_OUTSIDE = re.compile(rb'["{}\[\],]')
_INSIDE = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_SPACE = b" \t\r\n"
_QUOTE = ord('"')


class JsonReader(RecordReader):
    """``.json``."""

    def __init__(self) -> None:
        self._lines, self._array = LinesReader(), ArrayReader()

    def parser(self, path: Place) -> RecordReader:
        """Return the reader of lines or that of an array."""
        return self._array if head_of(path).startswith(b"[") else self._lines

    def count(
        self, path: Place, stream: Counting, shard_docs: int
    ) -> tuple[int, int, tuple[int, ...]]:
        """Count lines or elements."""
        return self.parser(path).count(path, stream, shard_docs)


class ArrayReader(RecordReader):
    """One JSON array: a row is an element, from 0."""

    def split(
        self, path: Place, stream: Stream, max_bytes: int, first_byte: int
    ) -> Iterator[Piece]:
        """Yield each element; raises OSError where the array has no end or something follows it."""
        skip(stream, first_byte, seekable=compression_of(path.name) is None)
        elements = _Elements(max_bytes, first_byte, begun=first_byte > 0)
        while chunk := stream.read(streams.CHUNK_BYTES):
            yield from elements.feed(chunk)
        elements.end()


class _Elements:
    """Finds the elements of an array, chunk by chunk; holds no more than ``max_bytes`` of one."""

    def __init__(self, max_bytes: int, start: int, *, begun: bool) -> None:
        self._max = max_bytes
        self._at = start  # of the chunk
        self._depth = 1 if begun else 0
        self._in_string = self._escaped = self._ended = False
        self._held: list[bytes] = []
        self._length, self._blank = 0, True  # of the element so far
        self._start = start
        self._any = begun  # whether an element must follow the last comma

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """Yield the elements that end within a chunk."""
        place = begin = self._opening(chunk)  # what follows `begin` is not held yet
        while place < len(chunk) and not self._ended:
            if self._in_string:
                place = self._in_text(chunk, place)
                continue
            found = _OUTSIDE.search(chunk, place)
            if found is None:
                break
            place = found.end()
            what = found[0]
            if what == b'"':
                self._in_string = True
            elif what in (b"{", b"["):
                self._depth += 1
            elif what == b"," and self._depth == 1:
                yield self._take(chunk[begin : place - 1])
                begin, self._start = place, self._at + place
                self._any = True
            elif what in (b"}", b"]"):
                self._depth -= 1
                if not self._depth:
                    yield from self._last(chunk[begin : place - 1])
                    begin = place
        if self._ended and chunk[begin:].strip(_SPACE):
            raise OSError("something follows the array's end")
        if not self._ended:
            self._hold(chunk[begin:])
        self._at += len(chunk)

    def end(self) -> None:
        """Raise OSError where the array has not come to its end."""
        if not self._ended:
            raise OSError("the JSON array has no end")

    def _opening(self, chunk: bytes) -> int:
        """Return where elements begin in a chunk: after the bracket that opens the array."""
        if self._depth or self._ended:
            return 0
        place = chunk.find(b"[")  # only spaces stand before it, as the file's head has shown
        if place < 0:
            return len(chunk)
        self._depth, self._start = 1, self._at + place + 1
        return place + 1

    def _in_text(self, chunk: bytes, place: int) -> int:
        """Return the place behind what ends a string, or the chunk's end."""
        if self._escaped:
            self._escaped = False
            return place + 1
        found = _INSIDE.match(chunk, place)
        assert found is not None  # it may be empty
        if found.end() == len(chunk):
            return len(chunk)
        self._in_string = self._escaped = chunk[found.end()] != _QUOTE  # else a last backslash
        return found.end() + 1

    def _hold(self, part: bytes) -> None:
        self._length += len(part)
        self._blank = self._blank and (not part or part.isspace())
        self._held = [*self._held, part] if self._length <= self._max else []

    def _take(self, part: bytes) -> Piece:
        """Return the element that ends with ``part``, without the spaces around it."""
        self._hold(part)
        data = b"".join(self._held).strip(_SPACE) if self._length <= self._max else None
        piece = Piece(data, self._length if data is None else len(data), self._start)
        self._held, self._length, self._blank = [], 0, True
        return piece

    def _last(self, part: bytes) -> Iterator[Piece]:
        """Yield the last element; an empty array has none."""
        blank = self._blank and (not part or part.isspace())
        last = self._take(part)
        if self._any or not blank:
            yield last
        self._ended = True
