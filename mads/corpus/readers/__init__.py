"""Kinds of corpus files, by suffix; what is a stream of bytes may be compressed as a whole.

To add one: a class with the methods of ``Reader`` and a line below; the contract test is
``tests/corpus/test_readers.py``.
"""

from __future__ import annotations

from mads.corpus.places import Place
from mads.corpus.readers.columns import ArrowReader, ColumnsReader, ParquetReader
from mads.corpus.readers.json_file import JsonReader
from mads.corpus.readers.lines import LinesReader
from mads.corpus.readers.records import RecordReader
from mads.corpus.readers.table import TableReader
from mads.corpus.readers.text import TextReader
from mads.corpus.streams import COMPRESSIONS, compression_of

READERS: dict[str, RecordReader | TextReader | ColumnsReader] = {
    ".jsonl": LinesReader(),
    ".ndjson": LinesReader(),
    ".json": JsonReader(),
    ".csv": TableReader(","),
    ".tsv": TableReader("\t"),
    ".txt": TextReader(),
    ".md": TextReader(),
    ".parquet": ParquetReader(),
    ".arrow": ArrowReader(),
}
KNOWN = (
    f"{', '.join(s for s, r in READERS.items() if not isinstance(r, ColumnsReader))} "
    f"(plain or {', '.join(COMPRESSIONS)}), "
    f"{', '.join(s for s, r in READERS.items() if isinstance(r, ColumnsReader))}"
)


def suffix_of(path: Place) -> str | None:
    """Return the known suffix of a corpus file, that of its compression too, or None."""
    packed = next((suffix for suffix in COMPRESSIONS if path.name.endswith(suffix)), "")
    stem = path.name.removesuffix(packed)
    found = next((suffix for suffix in READERS if stem.endswith(suffix)), None)
    if found is None or (packed and isinstance(READERS[found], ColumnsReader)):
        return None
    return found + packed


def reader_of(path: Place) -> RecordReader | TextReader | ColumnsReader:
    """Return what reads a corpus file."""
    suffix = suffix_of(path)
    assert suffix is not None, path
    packed = next((end for end in COMPRESSIONS if suffix.endswith(end)), "")
    return READERS[suffix.removesuffix(packed)]


def is_text(path: Place) -> bool:
    """Return whether a file is one document as a whole."""
    return isinstance(reader_of(path), TextReader)


def seekable(name: str) -> bool:
    """Return whether a file can be read from any place: it is not compressed as a whole."""
    return compression_of(name) is None
