"""The table of cells: documents that share one category of each agent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mads.errors import DataError
from mads.sealed import REMEDY, Seal, read_sealed, write_sealed
from mads.types import Cells


def cells_schema(agents: Iterable[str]) -> pa.Schema:
    """Return the schema of cells.parquet: one column of categories for each agent.

    ``uses`` is how often the cell's documents were selected before the generation was made.
    """
    counts = [pa.field(n, pa.uint64(), nullable=False) for n in ("num_docs", "num_tokens")]
    return pa.schema(
        [
            pa.field("cell", pa.uint32(), nullable=False),
            *(pa.field(name, pa.uint16(), nullable=False) for name in agents),
            pa.field("uses", pa.uint32(), nullable=False),
            *counts,
            pa.field("first_row", pa.uint64(), nullable=False),
        ]
    )


def write_cells(
    path: Path,
    categories: Mapping[str, tuple[str, ...]],
    category_CA: NDArray[np.uint16],
    num_docs_C: NDArray[np.int64],
    num_tokens_C: NDArray[np.int64],
    uses_C: NDArray[np.int64],
) -> None:
    """Write the cells of an index; a cell begins in the order where the one before ends."""
    columns = [
        np.arange(len(num_docs_C), dtype=np.uint32),
        *(category_CA[:, i] for i in range(len(categories))),
        uses_C.astype(np.uint32),
        num_docs_C.astype(np.uint64),
        num_tokens_C.astype(np.uint64),
        (np.cumsum(num_docs_C) - num_docs_C).astype(np.uint64),
    ]
    table = pa.table(columns, schema=cells_schema(categories))
    write_sealed(path, table, {"categories": dict(categories)})


def read_cells(
    path: Path, categories: Mapping[str, tuple[str, ...]], seal: Seal, remedy: str = REMEDY
) -> Cells:
    """Read the cells; raises DataError when the file was changed or is of other agents."""
    table = read_sealed(path, expected=seal, remedy=remedy)
    names = cells_schema(categories).names
    # Stores of before there were prior uses have no such column.
    before = ["cell", *categories, "num_docs", "num_tokens", "first_row"]
    if table.column_names not in (names, before):
        raise DataError(f"{path} has the columns {table.column_names}, expected {names}. {remedy}")
    columns = [table[name].to_numpy() for name in categories]
    empty = np.zeros((table.num_rows, 0), np.uint16)
    return Cells(
        agents=tuple(categories),
        categories=dict(categories),
        category_CA=np.stack(columns, axis=1) if columns else empty,
        num_docs_C=table["num_docs"].to_numpy().astype("int64"),
        num_tokens_C=table["num_tokens"].to_numpy().astype("int64"),
        first_row_C=table["first_row"].to_numpy().astype("int64"),
        uses_C=table["uses"].to_numpy().astype("int64") if table.column_names == names else None,
    )
