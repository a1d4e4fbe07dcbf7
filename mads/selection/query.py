"""From a plan to documents: DuckDB over the store's cell-major order, locked down.

Only the row groups of the planned ranges are read. The connection lives in memory, may open the
store's index and nothing else, and cannot be reconfigured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mads.config import SelectionConfig
from mads.errors import DataError
from mads.selection.plan import Cursors, Ints, Plan, decayed
from mads.types import Cells

ROUNDING = 1e-6  # tokens; what floating point may add to a sum of quotas

_DOCUMENTS = """
    SELECT o.cell, o.doc, o.num_tokens, o.tokens_before, r.uses
    FROM read_parquet($path) o
    JOIN ranges r ON o.cell = r.cell
        AND o.tokens_before >= r.start_tokens AND o.tokens_before < r.stop_tokens
    ORDER BY o.cell, r.uses, o.tokens_before
"""


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected documents (suffix N), cell after cell, and the cursors after them."""

    doc_N: NDArray[np.uint64]
    cell_N: Ints
    num_tokens_N: Ints
    uses_N: Ints  # times the document was selected before
    ranges: list[dict[str, Any]]
    cursors: Cursors

    @property
    def num_tokens(self) -> int:
        """Tokens of all selected documents."""
        return int(self.num_tokens_N.sum())

    def to_table(self, cells: Cells) -> pa.Table:
        """Return the rows of selection.parquet, with one category column per agent."""
        sizes = [part["stop_row"] - part["start_row"] for part in self.ranges]
        score_N = np.repeat(np.array([part["score"] for part in self.ranges]), sizes)
        columns = self.doc_N, self.cell_N, self.num_tokens_N, self.uses_N, score_N
        return selection_table(cells, *columns)


def selection_table(
    cells: Cells,
    doc_N: NDArray[np.uint64],
    cell_N: Ints,
    num_tokens_N: NDArray[Any],
    uses_N: Ints,
    score_N: NDArray[np.float64],
) -> pa.Table:
    """Return the rows of selection.parquet, with one category column per agent."""
    columns: dict[str, pa.Array] = {
        "doc": pa.array(doc_N, pa.uint64()),
        "cell": pa.array(cell_N, pa.uint32()),
        "num_tokens": pa.array(num_tokens_N, pa.uint32()),
        "times_selected": pa.array(uses_N, pa.uint32()),
        "score": pa.array(score_N, pa.float64()),
    }
    return pa.table({**columns, **category_columns(cells, cell_N)})


def category_columns(cells: Cells, cell_N: Ints) -> dict[str, pa.Array]:
    """Return each agent's category names for documents of the given cells."""
    return {
        agent: pa.DictionaryArray.from_arrays(
            pa.array(cells.category_CA[cell_N, column], pa.uint16()),
            pa.array(cells.categories[agent]),
        )
        for column, agent in enumerate(cells.agents)
    }


def connect(paths: list[Path], config: SelectionConfig) -> duckdb.DuckDBPyConnection:
    """Return a connection that can read the given files and do nothing else outside memory."""
    options: dict[str, Any] = {"memory_limit": config.memory}
    if config.threads:
        options["threads"] = config.threads
    connection = duckdb.connect(":memory:", config=options)
    allowed = sorted({str(p) for p in paths} | {literal(p) for p in paths})
    quoted = ", ".join("'" + path.replace("'", "''") + "'" for path in allowed)
    connection.execute(f"SET allowed_paths = [{quoted}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def literal(path: Path) -> str:
    """Return a path in which DuckDB finds no glob pattern."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in str(path))


def planned_ranges(cells: Cells, plan: Plan) -> pa.Table:
    """Return the token ranges that hold every document of the plan: one or two per cell."""
    parts: list[tuple[Ints, Ints, Ints, Ints]] = []
    chosen = np.flatnonzero(plan.quota_C > 0)
    start = plan.cursors.tokens_C[chosen]
    stop = start + np.ceil(plan.quota_C[chosen]).astype(np.int64)
    total = cells.num_tokens_C[chosen]
    passes = plan.cursors.passes_C[chosen]
    parts.append((chosen, passes, start, np.minimum(stop, total)))
    wraps = stop > total
    zero = np.zeros(int(wraps.sum()), np.int64)
    parts.append((chosen[wraps], passes[wraps] + 1, zero, (stop - total)[wraps]))
    cell, uses, first, last = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return pa.table(
        {
            "cell": pa.array(cell, pa.uint32()),
            "uses": pa.array(uses, pa.int64()),
            "start_tokens": pa.array(first, pa.uint64()),
            "stop_tokens": pa.array(last, pa.uint64()),
        }
    )


def select_documents(order: Path, cells: Cells, plan: Plan, config: SelectionConfig) -> Selection:
    """List the documents of a plan and move the cursors past them.

    Raises DataError when the index is missing or damaged, and when DuckDB has too little memory.
    """
    order = order.resolve()
    if not order.is_file():
        raise DataError(
            f"{order} does not exist. Run the same `mads annotate` again; it rebuilds the index."
        )
    with connect([order], config) as connection:
        connection.register("ranges", planned_ranges(cells, plan))
        try:
            result = connection.sql(_DOCUMENTS, params={"path": literal(order)}).to_arrow_table()
        except duckdb.OutOfMemoryException as error:
            raise DataError(
                f"selecting needs more memory than selection.memory allows: found "
                f"{config.memory}. Raise selection.memory (1GB, say)."
            ) from error
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"{order} cannot be read: {reason}. Delete it and run the same `mads annotate` "
                "again; it rebuilds the index."
            ) from error
    rows = {name: result[name].to_numpy() for name in result.column_names}
    return take(cells, plan, rows, config.decay)


def take(cells: Cells, plan: Plan, rows: dict[str, NDArray[Any]], decay: float) -> Selection:
    """Round the quotas of cut cells to whole documents and move the cursors.

    ``rows`` holds cell, doc, num_tokens, tokens_before and uses of the planned ranges' documents
    in the order (cell, uses, tokens_before), that is, in the order in which a cell is taken.
    """
    cell_N = rows["cell"].astype(np.int64)
    num_tokens_N = rows["num_tokens"].astype(np.int64)
    bounds = np.searchsorted(cell_N, np.arange(len(cells) + 1))
    count_C = np.diff(bounds)
    goal = taken = 0.0
    for cell in plan.cut.tolist():
        whole = float(plan.whole_C[cell])
        goal += float(plan.quota_C[cell]) - whole
        sizes_N = num_tokens_N[bounds[cell] : bounds[cell + 1]]
        # Tokens taken before each document, not counting the levels that are taken whole.
        before_N = np.cumsum(sizes_N) - sizes_N - whole
        count = int(np.searchsorted(before_N, max(goal - taken - ROUNDING, 0.0)))
        count_C[cell] = count
        taken += float(sizes_N[:count].sum()) - whole
    keep = np.arange(len(cell_N)) - bounds[cell_N] < count_C[cell_N]
    chosen = {name: values[keep] for name, values in rows.items()}
    ranges = _row_ranges(plan, chosen, decay)
    return Selection(
        doc_N=chosen["doc"],
        cell_N=chosen["cell"].astype(np.int64),
        num_tokens_N=chosen["num_tokens"].astype(np.int64),
        uses_N=chosen["uses"].astype(np.int64),
        ranges=ranges,
        cursors=_moved(cells, plan.cursors, ranges),
    )


def _row_ranges(plan: Plan, rows: dict[str, NDArray[Any]], decay: float) -> list[dict[str, Any]]:
    """Return the runs of consecutive rows of a cell with equal use, and their scores."""
    if not len(rows["cell"]):
        return []
    cell, uses = rows["cell"].astype(np.int64), rows["uses"].astype(np.int64)
    new = np.concatenate(([True], (np.diff(cell) != 0) | (np.diff(uses) != 0)))
    starts = np.flatnonzero(new)
    stops = np.concatenate((starts[1:], [len(cell)]))
    ranges = []
    for first, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        number, use = int(cell[first]), int(uses[first])
        fresh = use == int(plan.cursors.passes_C[number])
        start_row = int(plan.cursors.row_C[number]) if fresh else 0
        ranges.append(
            {
                "cell": number,
                "uses": use,
                "score": float(decayed(plan.score_C[number], np.array(use), decay)),
                "start_row": start_row,
                "stop_row": start_row + stop - first,
                "start_tokens": int(rows["tokens_before"][first]),
                "stop_tokens": int(rows["tokens_before"][stop - 1] + rows["num_tokens"][stop - 1]),
            }
        )
    return ranges


def _moved(cells: Cells, cursors: Cursors, ranges: list[dict[str, Any]]) -> Cursors:
    passes_C, row_C, tokens_C = (
        array.copy() for array in (cursors.passes_C, cursors.row_C, cursors.tokens_C)
    )
    for part in ranges:  # a cell's second range, if any, comes after its first
        cell = part["cell"]
        whole = part["stop_row"] == int(cells.num_docs_C[cell])
        passes_C[cell] = part["uses"] + whole
        row_C[cell] = 0 if whole else part["stop_row"]
        tokens_C[cell] = 0 if whole else part["stop_tokens"]
    return Cursors(passes_C, row_C, tokens_C)
