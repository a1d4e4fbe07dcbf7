"""The same documents in every kind of file."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Document = dict[str, Any]


def zstd(data: bytes) -> bytes:
    buffer = pa.BufferOutputStream()
    with pa.CompressedOutputStream(buffer, "zstd") as stream:
        stream.write(data)
    return bytes(buffer.getvalue().to_pybytes())


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstd,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def json_lines(documents: Sequence[Document]) -> bytes:
    return "".join(json.dumps(document) + "\n" for document in documents).encode()


def json_array(documents: Sequence[Document]) -> bytes:
    return json.dumps(documents, indent=1).encode()


def table(delimiter: str) -> Callable[[Sequence[Document]], bytes]:
    def write(documents: Sequence[Document]) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(documents[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(documents)
        return text.getvalue().encode()

    return write


def parquet(documents: Sequence[Document]) -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(documents), buffer, row_group_size=70)
    return bytes(buffer.getvalue().to_pybytes())


def arrow(kind: Any) -> Callable[[Sequence[Document]], bytes]:
    """Return a writer of Arrow's stream format (as `datasets` has it) or of its file format."""

    def write(documents: Sequence[Document]) -> bytes:
        whole, buffer = pa.Table.from_pylist(documents), pa.BufferOutputStream()
        with kind(buffer, whole.schema) as writer:
            writer.write_table(whole, max_chunksize=70)
        return bytes(buffer.getvalue().to_pybytes())

    return write


WRITERS: dict[str, Callable[[Sequence[Document]], bytes]] = {
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".json": json_array,
    ".csv": table(","),
    ".tsv": table("\t"),
    ".parquet": parquet,
    ".arrow": arrow(pa.ipc.new_stream),
}
COLUMNS = (".parquet", ".arrow")
NAMES = [
    f"a{suffix}{packed}"
    for suffix in WRITERS
    for packed in PACKERS
    if not (packed and suffix in COLUMNS)
]
"""A file's name for every kind and compression; a text file holds one document only."""


def write_kind(path: Path, documents: Sequence[Document]) -> Path:
    """Write documents as the name of the path says."""
    packed = next((p for p in PACKERS if p and path.name.endswith(p)), "")
    suffix = path.name.removesuffix(packed)
    data = WRITERS[suffix[suffix.index(".") :]](documents)
    path.write_bytes(PACKERS[packed](data))
    return path
