"""The table of a shard's documents: one row for each corpus row, whatever became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mads.codec import from_json, to_json
from mads.errors import DataError
from mads.sealed import REMEDY, Seal, read_metadata, read_sealed, write_sealed
from mads.store.memory import doc_numbers
from mads.types import Status

DOCUMENTS_SCHEMA = pa.schema(
    [
        pa.field("doc", pa.uint64(), nullable=False),
        pa.field("num_tokens", pa.uint32(), nullable=False),
        pa.field("num_bytes", pa.uint32(), nullable=False),
        pa.field("content_hash", pa.uint64(), nullable=False),
        pa.field("status", pa.dictionary(pa.int8(), pa.string()), nullable=False),
    ]
)
ID = pa.field("id", pa.string())  # of the user's own, where there is one; a column of its own
_CODES = {status: code for code, status in enumerate(Status)}


@dataclass(frozen=True, slots=True)
class DocumentsHeader:
    """What a table of documents says of itself: its shard, its tokens' checksums, its sums."""

    shard: str  # fingerprint
    token_sums: Seal
    tokens: int
    text_bytes: int
    statuses: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Documents:
    """The columns of a shard's documents."""

    num_tokens_N: NDArray[np.uint32]
    num_bytes_N: NDArray[np.int64]
    content_hash_N: NDArray[np.uint64]
    status_N: NDArray[np.int8]  # places in Status
    ids: Sequence[str | None] | None = None  # the user's; None where the store has none

    def status(self, row: int) -> Status:
        """Return what became of a row."""
        return list(Status)[int(self.status_N[row])]

    def is_ok(self) -> NDArray[np.bool_]:
        """Return which of N rows have the status ok."""
        return np.equal(self.status_N, _CODES[Status.OK])


def status_codes(statuses: list[Status]) -> list[int]:
    """Return the places of statuses in Status."""
    return [_CODES[status] for status in statuses]


def write_documents(
    path: Path, shard: int, fingerprint: str, token_sums: Seal, documents: Documents
) -> None:
    """Write a shard's table; ``fingerprint`` is the shard's."""
    counts = np.bincount(documents.status_N, minlength=len(Status))
    header = DocumentsHeader(
        fingerprint,
        token_sums,
        int(documents.num_tokens_N.sum(dtype=np.int64)),
        int(documents.num_bytes_N.sum()),
        {status.value: int(counts[code]) for status, code in _CODES.items()},
    )
    columns = [
        doc_numbers(shard, len(documents.status_N)),
        documents.num_tokens_N,
        np.minimum(documents.num_bytes_N, 2**32 - 1).astype(np.uint32),
        documents.content_hash_N,
        pa.DictionaryArray.from_arrays(
            pa.array(documents.status_N), pa.array([status.value for status in Status])
        ),
    ]
    table = pa.table(columns, schema=DOCUMENTS_SCHEMA)
    if documents.ids is not None:
        table = table.append_column(ID, pa.array(documents.ids, ID.type))
    write_sealed(path, table, to_json(header), compression="zstd")


def read_documents_header(path: Path) -> DocumentsHeader:
    """Return what a table says of itself; raises DataError when it is damaged."""
    value = read_metadata(path)
    return from_json(DocumentsHeader, value, path, "a table of documents", REMEDY)


def read_documents(path: Path, shard: int, num_rows: int, seal: Seal | None = None) -> Documents:
    """Read a shard's table; raises DataError when it was changed or is another shard's."""
    table = read_sealed(path, expected=seal)
    names = DOCUMENTS_SCHEMA.names
    same = table.num_rows == num_rows and table.column_names in (names, [*names, ID.name])
    if not same or (table["doc"].to_numpy() != doc_numbers(shard, num_rows)).any():
        raise DataError(f"{path} does not list the {num_rows} documents of its shard. {REMEDY}")
    return Documents(
        table["num_tokens"].to_numpy(),
        table["num_bytes"].to_numpy().astype(np.int64),
        table["content_hash"].to_numpy(),
        _codes(table["status"]),
        table[ID.name].to_pylist() if ID.name in table.column_names else None,
    )


def read_ids(path: Path, seal: Seal | None = None) -> list[str | None]:
    """Return the user's ids of a shard's rows; raises DataError when the table was changed."""
    found: list[str | None] = read_sealed(path, [ID.name], seal)[ID.name].to_pylist()
    return found


def _codes(status: pa.ChunkedArray) -> NDArray[np.int8]:
    parts = [np.zeros(0, np.int8)]
    for chunk in status.chunks:
        code_D = np.array([_CODES[Status(name)] for name in chunk.dictionary.to_pylist()], np.int8)
        parts.append(code_D[chunk.indices.to_numpy()])
    return np.concatenate(parts)


def selectable(path: Path) -> tuple[NDArray[np.bool_], NDArray[np.uint32]]:
    """Return which rows of a verified table have the status ok, and all rows' tokens."""
    table = read_sealed(path, ["num_tokens", "status"])
    return np.equal(_codes(table["status"]), _CODES[Status.OK]), table["num_tokens"].to_numpy()
