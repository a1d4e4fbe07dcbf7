"""``.txt`` and ``.md``: a file is one document; its path in the corpus is its id."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from mads.corpus import streams
from mads.corpus.places import Place, open_raw
from mads.corpus.readers.reader import Extent, Row, RowFormat, make_row, without_text
from mads.corpus.streams import BOM, Hashing, open_stream
from mads.types import Status

FIELDS = ["text", "id"]


class TextReader:
    """One document, whatever ``text_field`` says; its other field is ``id``."""

    def scan(self, path: Place, shard_docs: int) -> Extent:
        """Fingerprint a file; it has one row."""
        del shard_docs
        size = 0
        with open_raw(path) as raw:
            whole = Hashing(raw)
            with open_stream(path, whole) as stream:
                while chunk := stream.read(streams.CHUNK_BYTES):
                    size += len(chunk)
            return Extent(1, size, whole.sha256())

    def rows(
        self, path: Place, name: str, first_row: int, first_byte: int, row_format: RowFormat
    ) -> Iterator[Row]:
        """Yield the row."""
        del first_byte
        if first_row:
            return
        data, size = _read(path, row_format.max_doc_bytes)
        if data is None:
            yield without_text(Status.TOO_LONG, size, row_format)
        else:
            record: dict[str, object] = {"text": data, "id": name}
            yield make_row(record | {row_format.text_field: data}, row_format)

    def names(self, path: Place, num_rows: int) -> list[str]:
        """Return the fields of every such file."""
        del path, num_rows
        return FIELDS

    def lines(
        self, path: Place, name: str, rows: Sequence[int], row_format: RowFormat
    ) -> Iterator[bytes]:
        """Yield the document as one line of JSON, if it is among the rows."""
        for _ in rows:
            data, _ = _read(path, row_format.max_doc_bytes)
            assert data is not None
            record = {"id": name, "text": data.decode("utf-8")}
            yield json.dumps(record, ensure_ascii=False).encode()


def _read(path: Place, max_bytes: int) -> tuple[bytes | None, int]:
    """Return a file's bytes, None where they are too many, and how many they are."""
    parts: list[bytes] = []
    size = 0
    with open_stream(path) as stream:
        while chunk := stream.read(streams.CHUNK_BYTES):
            chunk = chunk.removeprefix(BOM) if not size else chunk
            size += len(chunk)
            parts = [*parts, chunk] if size <= max_bytes else []
    return (b"".join(parts) if size <= max_bytes else None), size
