"""Small made-up indexes: cells and their documents, without a corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mads.index.order import ORDER_SCHEMA
from mads.selection.parts import Rows, in_parts
from mads.selection.plan import Plan
from mads.selection.query import planned_ranges
from mads.types import Cells


def make_cells(sizes: list[list[int]]) -> tuple[Cells, Rows]:
    """Return an index in which cell c holds documents of the given token counts, in order."""
    counts = np.array([len(cell) for cell in sizes])
    tokens = np.concatenate([np.array(cell, np.int64) for cell in sizes])
    totals = np.array([sum(cell) for cell in sizes])
    before = np.concatenate([np.cumsum([0, *cell[:-1]]) for cell in sizes])
    cells = Cells(
        agents=("a",),
        categories={"a": tuple(f"c{i}" for i in range(len(sizes)))},
        category_CA=np.arange(len(sizes), dtype=np.uint16)[:, None],
        num_docs_C=counts,
        num_tokens_C=totals,
        first_row_C=np.cumsum(counts) - counts,
    )
    order = {
        "doc": np.arange(len(tokens), dtype=np.uint64) * 7 + 3,
        "cell": np.repeat(np.arange(len(sizes)), counts),
        "num_tokens": tokens,
        "tokens_before": before,
    }
    return cells, order


def planned_rows(cells: Cells, order: Rows, plan: Plan) -> Rows:
    """Return the rows that a plan can take, found row by row."""
    chosen: list[int] = []
    uses: list[int] = []
    amount_C = np.ceil(plan.quota_C).astype(np.int64)
    ranges = planned_ranges(cells, plan, amount_C).to_pylist()
    places = order["tokens_before"] if plan.unit == "tokens" else np.arange(len(order["doc"]))
    for part in sorted(ranges, key=lambda r: (r["cell"], r["uses"])):
        for row in np.flatnonzero(order["cell"] == part["cell"]).tolist():
            if part["start"] <= places[row] < part["stop"]:
                chosen.append(row)
                uses.append(part["uses"])
    rows = {name: values[chosen] for name, values in order.items()}
    return in_parts(cells, plan, amount_C, {**rows, "uses": np.array(uses, np.int64)})


def write_order(path: Path, order: Rows, row_group_size: int = 16) -> None:
    """Write an index's order.parquet."""
    columns = [pa.array(order[field.name], field.type) for field in ORDER_SCHEMA]
    pq.write_table(pa.table(columns, schema=ORDER_SCHEMA), path, row_group_size=row_group_size)
