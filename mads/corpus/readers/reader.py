"""What every kind of corpus file is asked: how many rows it has, and what they hold.

A row has the same number whoever reads it, from wherever: the shards of a store are runs of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from mads.corpus.places import Place
from mads.types import Status


@dataclass(frozen=True, slots=True)
class RowFormat:
    """What to read of a row: dotted paths to the text and to further fields."""

    text_field: str = "text"
    fields: tuple[str, ...] = ()
    max_doc_bytes: int = 4 * 1024 * 1024

    @property
    def max_line_bytes(self) -> int:
        """A record may be longer than its text: escapes, and the other fields."""
        return 2 * self.max_doc_bytes + 1024 * 1024


Row = tuple[str, Status, int, list[object]]
"""Text ("" unless ok), status, bytes of UTF-8 text, one value per field."""


@dataclass(frozen=True, slots=True)
class Extent:
    """The rows of a file, the bytes of its text as far as the format tells, and its sha256.

    ``first_bytes`` are the places (in the uncompressed text) of the rows 0, K, 2K, … of a file
    that is a stream of records, K being the rows of a shard.
    """

    num_rows: int
    text_bytes: int
    sha256: str
    first_bytes: tuple[int, ...] = ()


class Reader(Protocol):
    """One kind of corpus file."""

    def scan(self, path: Place, shard_docs: int) -> Extent:
        """Count and fingerprint a file.

        Raises DataError for one of another kind, OSError or pyarrow's errors for a damaged one.
        """

    def rows(
        self, path: Place, name: str, first_row: int, first_byte: int, row_format: RowFormat
    ) -> Iterator[Row]:
        """Yield the rows from ``first_row`` on, which begins at ``first_byte`` of the text.

        ``name`` is the file's own in the corpus. Raises as ``scan`` does.
        """

    def names(self, path: Place, num_rows: int) -> list[str]:
        """Return the fields that the first rows have, in their order."""


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


def without_text(status: Status, num_bytes: int, row_format: RowFormat) -> Row:
    """Return a row of which nothing can be read."""
    return "", status, num_bytes, [None] * len(row_format.fields)


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


def paths_of(record: object) -> list[str]:
    """Return the dotted paths of a record's values, those of nested dictionaries too.

    >>> paths_of({"text": "x", "meta": {"set": "C4"}})
    ['text', 'meta.set']
    """
    if not isinstance(record, dict):
        return []
    found: list[str] = []
    for key, value in record.items():
        inner = paths_of(value)
        found += [f"{key}.{path}" for path in inner] if inner else [str(key)]
    return found
