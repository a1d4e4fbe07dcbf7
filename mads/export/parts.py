"""A selection cut into parts for several machines, from its plan alone.

The plan names row ranges of the index's order, so part i of n is a run of these rows: the parts
are disjoint, their union is the selection, and a part reads no row group but its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mads.files import atomic_path, write_json
from mads.layout import RoundDir
from mads.selection.take import Range, selection_table
from mads.store.store import Store
from mads.units import parse_part


def part_ranges(ranges: list[Range], index: int, count: int) -> list[Range]:
    """Return the row ranges of part ``index`` of ``count``, with rows shared evenly."""
    total = sum(part["stop_row"] - part["start_row"] for part in ranges)
    low, high = total * index // count, total * (index + 1) // count
    found, done = [], 0
    for part in ranges:
        rows = part["stop_row"] - part["start_row"]
        start, stop = max(low - done, 0), min(high - done, rows)
        done += rows
        if start < stop:
            first = part["start_row"]
            found.append({**part, "start_row": first + start, "stop_row": first + stop})
    return found


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a plan: its row ranges and its documents, the rows of selection.parquet."""

    text: str  # i/n
    ranges: list[Range]
    documents: pa.Table

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents."""
        return int(self.documents["num_tokens"].to_numpy().sum())


def find_part(store: Store, plan: dict[str, Any], text: str) -> Part:
    """List the documents of part ``i/n`` of a plan; raises UsageError for no such part."""
    ranges = part_ranges(plan["ranges"], *parse_part(text))
    return Part(text, ranges, range_documents(store, ranges))


def write_part(plan: dict[str, Any], part: Part, out: Path) -> None:
    """Write selection.parquet and, last, plan.json of one part of a plan."""
    folder = RoundDir(out)
    with atomic_path(folder.selection) as partial:
        pq.write_table(part.documents, partial, compression="zstd")
    own = {
        "shard": part.text,
        "num_docs": part.documents.num_rows,
        "num_tokens": part.num_tokens,
        "ranges": part.ranges,
    }
    write_json(folder.plan, {**plan, **own})


def range_documents(store: Store, ranges: list[Range]) -> pa.Table:
    """Return the documents of row ranges as the rows of selection.parquet."""
    sizes = np.array([part["stop_row"] - part["start_row"] for part in ranges], np.int64)
    cell_N, uses_N, score_N = (
        np.repeat(np.array([part[name] for part in ranges]), sizes)
        for name in ("cell", "uses", "score")
    )
    first = [int(store.cells.first_row_C[part["cell"]]) + part["start_row"] for part in ranges]
    row_N = np.repeat(np.array(first, np.int64), sizes) + np.concatenate(
        [np.zeros(0, np.int64), *(np.arange(size) for size in sizes)]
    )
    cell_N = cell_N.astype(np.int64)
    rows = store.order_rows(row_N, ["doc", "num_tokens"])
    return selection_table(store.cells, rows["doc"], cell_N, rows["num_tokens"], uses_N, score_N)
