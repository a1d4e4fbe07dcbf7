"""An agent's memory: the labels of one corpus shard in one Parquet file, same rows, same order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mads.codec import from_json, to_json
from mads.errors import DataError
from mads.sealed import REMEDY, Seal, read_metadata, read_sealed, write_sealed
from mads.types import NO_CATEGORY, Labels, Scores, doc_id

SCHEMA = pa.schema(
    [
        pa.field("doc", pa.uint64(), nullable=False),
        pa.field("category", pa.uint16(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
    ]
)
SCORES_SCHEMA = pa.schema(
    [
        pa.field("doc", pa.uint64(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("known", pa.bool_(), nullable=False),
    ]
)
VERSION = 3


@dataclass(frozen=True, slots=True)
class MemoryHeader:
    """What a memory file says of itself (Parquet metadata).

    ``edges`` belongs to an agent that bins by quantiles: category i holds the scores from
    edges[i - 1] (included) to edges[i] (excluded). It is None for every other agent, and while
    the scores of the whole corpus are still being collected.
    """

    agent: str
    categories: tuple[str, ...]
    classifier: str  # fingerprint of the agent
    shard: str  # fingerprint of the shard
    edges: tuple[float, ...] | None = None
    unbinned: bool = False  # whether scores are still to be binned
    version: int = VERSION


def doc_numbers(shard: int, num_rows: int) -> NDArray[np.uint64]:
    """Return the document numbers of a shard's rows."""
    return np.arange(doc_id(shard, 0), doc_id(shard, num_rows), dtype=np.uint64)


def write_memory(
    path: Path,
    header: MemoryHeader,
    doc_N: NDArray[np.uint64],
    labels: Labels,
) -> None:
    """Write one shard; raises DataError for a score that is not finite or an unknown category."""
    category_N, score_N = labels.category_N, labels.score_N
    _check_finite(path, header, score_N)
    outside = np.flatnonzero((category_N != NO_CATEGORY) & (category_N >= len(header.categories)))
    if len(outside):
        raise DataError(
            f"agent {header.agent!r} gave category {category_N[outside[0]]} to row {outside[0]} "
            f"of {path.name}; it has {len(header.categories)} categories."
        )
    table = pa.table([doc_N, category_N, score_N], schema=SCHEMA)
    # Consecutive numbers: as differences they take no room and are read ten times faster.
    encoding = {"doc": "DELTA_BINARY_PACKED"}
    options = {"use_dictionary": ["category"], "column_encoding": encoding}
    write_sealed(path, table, to_json(header), compression="zstd", **options)


def write_scores(
    path: Path, header: MemoryHeader, doc_N: NDArray[np.uint64], scores: Scores
) -> None:
    """Write one shard of scores that are still to be binned; raises DataError like a memory."""
    _check_finite(path, header, scores.score_N)
    table = pa.table([doc_N, scores.score_N, scores.known_N], schema=SCORES_SCHEMA)
    encoding = {"doc": "DELTA_BINARY_PACKED"}
    options = {"use_dictionary": False, "column_encoding": encoding}
    write_sealed(path, table, to_json(header), compression="zstd", **options)


def _check_finite(path: Path, header: MemoryHeader, score_N: NDArray[np.float32]) -> None:
    bad = np.flatnonzero(~np.isfinite(score_N))
    if len(bad):
        raise DataError(
            f"agent {header.agent!r} gave the score {score_N[bad[0]]} to row {bad[0]} of "
            f"{path.name}; scores must be finite."
        )


def read_header(path: Path, remedy: str = REMEDY) -> MemoryHeader:
    """Read the metadata of a memory file; raises DataError when it is damaged or foreign."""
    return from_json(MemoryHeader, read_metadata(path, remedy), path, "a memory", remedy)


def check_header(path: Path, expected: MemoryHeader, remedy: str = REMEDY) -> None:
    """Raise DataError, with both values, when a memory was made from something else."""
    found = read_header(path, remedy)
    for name in ("version", "agent", "categories", "classifier", "shard", "unbinned", "edges"):
        have, want = getattr(found, name), getattr(expected, name)
        if have != want:
            raise DataError(
                f"{path} does not belong to this store: its {name} is {have!r}, expected {want!r}. "
                f"{remedy}"
            )


def read_memory(
    path: Path,
    expected: MemoryHeader,
    shard: int,
    num_rows: int,
    seal: Seal | None = None,
    remedy: str = REMEDY,
) -> Labels:
    """Read one shard and check all of it: header, bytes, rows and documents.

    ``seal`` is what the manifest says of the file, where there is a manifest. Raises DataError,
    with both values, for whatever does not agree.
    """
    table = _read(path, expected, shard, num_rows, seal, remedy)
    return Labels(table["category"].to_numpy(), table["score"].to_numpy())


def read_scores(path: Path, expected: MemoryHeader, shard: int, num_rows: int) -> Scores:
    """Read one shard of scores, checked as a memory is."""
    table = _read(path, expected, shard, num_rows, None, REMEDY)
    return Scores(table["score"].to_numpy(), table["known"].to_numpy())


def _read(
    path: Path,
    expected: MemoryHeader,
    shard: int,
    num_rows: int,
    seal: Seal | None,
    remedy: str,
) -> pa.Table:
    check_header(path, expected, remedy)
    table = read_sealed(path, expected=seal, remedy=remedy)
    if table.num_rows != num_rows:
        raise DataError(f"{path} has {table.num_rows} rows, expected {num_rows}. {remedy}")
    doc_N, wanted_N = table["doc"].to_numpy(), doc_numbers(shard, num_rows)
    other = np.flatnonzero(doc_N != wanted_N)
    if len(other):
        raise DataError(
            f"{path} belongs to another shard: row {other[0]} is document {doc_N[other[0]]}, "
            f"expected {wanted_N[other[0]]}. {remedy}"
        )
    return table
