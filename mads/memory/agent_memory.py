"""An agent's memory: the labels of one corpus shard in one Parquet file, same rows, same order."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mads.errors import DataError
from mads.run_dir import atomic_path
from mads.types import NO_CATEGORY, Labels

SCHEMA = pa.schema(
    [
        pa.field("doc", pa.uint64(), nullable=False),
        pa.field("category", pa.uint16(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
    ]
)
METADATA_KEY = b"mads"
VERSION = 1


@dataclass(frozen=True, slots=True)
class MemoryHeader:
    """What a memory file says of itself (Parquet metadata)."""

    agent: str
    categories: tuple[str, ...]
    classifier: str  # fingerprint of the agent
    corpus: str  # fingerprint of the corpus
    version: int = VERSION


def write_memory(
    path: Path,
    header: MemoryHeader,
    doc_N: NDArray[np.uint64],
    labels: Labels,
) -> None:
    """Write one shard; raises DataError for a score that is not finite or an unknown category."""
    category_N, score_N = labels.category_N, labels.score_N
    bad = np.flatnonzero(~np.isfinite(score_N))
    if len(bad):
        raise DataError(
            f"agent {header.agent!r} gave the score {score_N[bad[0]]} to row {bad[0]} of "
            f"{path.name}; scores must be finite."
        )
    outside = np.flatnonzero((category_N != NO_CATEGORY) & (category_N >= len(header.categories)))
    if len(outside):
        raise DataError(
            f"agent {header.agent!r} gave category {category_N[outside[0]]} to row {outside[0]} "
            f"of {path.name}; it has {len(header.categories)} categories."
        )
    table = pa.table([doc_N, category_N, score_N], schema=SCHEMA)
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(asdict(header)).encode()})
    with atomic_path(path) as partial:
        pq.write_table(table, partial, compression="zstd", use_dictionary=["category"])


def read_header(path: Path) -> MemoryHeader:
    """Read the metadata of a memory file; raises DataError when it is damaged or foreign."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
        value = json.loads(metadata[METADATA_KEY])
        value["categories"] = tuple(value["categories"])
        return MemoryHeader(**value)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is not a readable memory: {error}. Delete it and run `mads annotate` again."
        ) from error


def check_header(path: Path, expected: MemoryHeader) -> None:
    """Raise DataError, with both values, when a memory was made from something else."""
    found = read_header(path)
    for name in ("version", "agent", "categories", "classifier", "corpus"):
        have, want = getattr(found, name), getattr(expected, name)
        if have != want:
            raise DataError(
                f"{path} does not belong to this store: its {name} is {have!r}, expected {want!r}. "
                "Delete it and run `mads annotate` again, or annotate into another store."
            )
