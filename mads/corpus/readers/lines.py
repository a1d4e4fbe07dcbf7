"""JSON lines: a row is a line, blank or not, so row = line number - 1."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mads.corpus import streams
from mads.corpus.places import Place
from mads.corpus.readers.records import Counting, Piece, RecordReader
from mads.corpus.streams import BOM, HEAD_BYTES, Stream, compression_of, open_stream, skip
from mads.errors import DataError

NEWLINE = ord("\n")


class LinesReader(RecordReader):
    """``.jsonl`` and ``.ndjson``: one JSON object on each line."""

    def split(
        self, path: Place, stream: Stream, max_bytes: int, first_byte: int
    ) -> Iterator[Piece]:
        """Yield each line."""
        skip(stream, first_byte, seekable=compression_of(path.name) is None)
        lines = raw_lines(stream, max_bytes, first_byte)
        if not first_byte:
            for piece in lines:
                yield _without_bom(piece)
                break
        yield from lines

    def line(self, data: bytes) -> bytes:
        """Return a line with its own bytes."""
        return data

    def count(
        self, path: Place, stream: Counting, shard_docs: int
    ) -> tuple[int, int, tuple[int, ...]]:
        """Return the numbers of lines and bytes, and where every ``shard_docs``-th line begins."""
        refuse_other_json(path)
        num_lines = num_bytes = 0
        firsts = [0]
        last = b"\n"
        while chunk := stream.read(streams.CHUNK_BYTES):
            found = chunk.count(b"\n")
            if num_lines + found >= len(firsts) * shard_docs:
                ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == NEWLINE)
                while num_lines + found >= len(firsts) * shard_docs:
                    end = ends[len(firsts) * shard_docs - num_lines - 1]
                    firsts.append(num_bytes + int(end) + 1)
            num_lines += found
            num_bytes += len(chunk)
            last = chunk[-1:]
        num_lines += last != b"\n"
        return num_lines, num_bytes, tuple(firsts[: -(-num_lines // shard_docs) or 1])


def raw_lines(stream: Stream, max_bytes: int, start: int) -> Iterator[Piece]:
    """Yield each line of a stream that stands at the byte ``start``."""
    rest: list[bytes] = []
    held = 0
    while chunk := stream.read(streams.CHUNK_BYTES):
        *complete, tail = chunk.split(b"\n")
        for line in complete:
            length = held + len(line)
            whole = b"".join((*rest, line)) if rest else line
            yield Piece(whole if length <= max_bytes else None, length, start)
            start += length + 1
            rest, held = [], 0
        held += len(tail)
        rest = [*rest, tail] if held <= max_bytes else []
    if held:
        yield Piece(b"".join(rest) if held <= max_bytes else None, held, start)


def _without_bom(piece: Piece) -> Piece:
    if piece.data is None or not piece.data.startswith(BOM):
        return piece
    return Piece(piece.data[len(BOM) :], piece.length - len(BOM), piece.start)


def head_of(path: Place) -> bytes:
    """Return the beginning of a file's text, without what is no part of it."""
    with open_stream(path) as stream:
        return stream.read(HEAD_BYTES).removeprefix(BOM).lstrip()


def refuse_other_json(path: Place) -> None:
    """Raise DataError for JSON that is not one record per line."""
    what = other_json(head_of(path))
    if what:
        raise DataError(
            f"{path} is {what}, expected one JSON object per line. Write it as JSON lines, "
            "such as with `jq -c '.[]?' old.jsonl > new.jsonl`."
        )


def other_json(head: bytes) -> str:
    """Return what a file is that begins so and is not JSON lines, or an empty text."""
    first = head.split(b"\n")[0].strip()
    if first.startswith(b"["):
        return "one JSON array"
    return "JSON over several lines" if first == b"{" else ""
