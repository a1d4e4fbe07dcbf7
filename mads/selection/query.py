"""From a plan to documents: DuckDB over the store's cell-major order, locked down.

Only the row groups of the planned ranges are read. The connection lives in RAM, may open the
store's index and nothing else, and cannot be reconfigured. Opening it takes longer than many a
selection, so it stays open, and selections that follow each other are read ahead in one query.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from mads.config import SelectionConfig
from mads.errors import DataError
from mads.files import unreadable
from mads.selection.checked import REMEDY, CheckBytes, check_rows, unchecked
from mads.selection.parts import Rows, in_parts
from mads.selection.plan import Cursors, Plan, cell_sizes
from mads.selection.take import Selection, take
from mads.store.store import Store
from mads.types import Cells, Ints
from mads.units import Unit

READ_AHEAD_DEVIATIONS = 8

# The two constants are queries, not values: a plan in documents names rows of the file.
_PLACES: dict[Unit, str] = {"tokens": "o.tokens_before", "docs": "o.file_row_number"}
_DOCUMENTS = """
    SELECT o.cell, o.doc, o.num_tokens, o.tokens_before, r.uses
    FROM read_parquet($path, file_row_number = true) o
    JOIN ranges r ON o.cell = r.cell AND {place} >= r.start AND {place} < r.stop
    ORDER BY o.cell, r.uses, o.tokens_before
"""


class OrderReader:
    """Lists the documents of plans over one store, through a connection that stays open.

    Raises DataError when the index is missing or damaged, and when DuckDB has too little RAM.
    """

    def __init__(
        self,
        order: Path,
        cells: Cells,
        config: SelectionConfig,
        check_bytes: CheckBytes = unchecked,
        remedy: str = REMEDY,
    ) -> None:
        self._order, self._cells, self._config = order.resolve(), cells, config
        self._check_bytes, self._remedy = check_bytes, remedy
        if not self._order.is_file():
            raise DataError(f"{order} does not exist. {remedy}")
        self._connection = connect([self._order], config)
        self._window: _Window | None = None

    @staticmethod
    def of(store: Store, config: SelectionConfig) -> OrderReader:
        """Return the reader of a store's order, whose bytes are verified as they are read."""
        check = partial(store.order.check, threads=config.threads or os.cpu_count() or 1)
        order = store.order.path
        remedy = store.remedy(order) if store.refresh else REMEDY
        return OrderReader(order, store.cells, config, check, remedy)

    def __enter__(self) -> OrderReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def select(self, plan: Plan, selections: int = 1) -> Selection:
        """List the documents of a plan and move the cursors past them.

        ``selections``: how many of about this size will follow each other, this one included;
        they are read ahead as far as this one tells.
        """
        if self._window is None or not self._window.holds(plan):
            amount_C = _amounts(self._cells, plan, selections)
            ranges = planned_ranges(self._cells, plan, amount_C)
            rows = self._read(ranges, plan.unit)
            check_rows(
                *(self._order, self._cells, plan.cursors, ranges, rows, plan.unit),
                check_bytes=self._check_bytes,
                remedy=self._remedy,
            )
            rows = in_parts(self._cells, plan, amount_C, rows)
            self._window = _Window(self._cells, plan, amount_C, rows)
        return take(self._cells, plan, self._window.rows(plan), self._config.decay)

    def forget(self) -> None:
        """Forget what was read ahead, which else answers the same plan without a query."""
        self._window = None

    def _read(self, ranges: pa.Table, unit: Unit) -> Rows:
        query = _DOCUMENTS.format(place=_PLACES[unit])
        params = {"path": literal(self._order)}
        try:
            self._connection.register("ranges", ranges)
            table = self._connection.sql(query, params=params).to_arrow_table()
        except duckdb.OutOfMemoryException as error:
            raise DataError(
                f"selecting needs more RAM than selection.ram allows: found "
                f"{self._config.ram}. Raise selection.ram (1GB, say), if the machine has as much."
            ) from error
        except duckdb.Error as error:
            raise unreadable(self._order, error, self._remedy) from error
        return {name: table[name].to_numpy() for name in table.column_names}


def connect(paths: list[Path], config: SelectionConfig) -> duckdb.DuckDBPyConnection:
    """Return a connection that can read the given files and do nothing else outside RAM."""
    options: dict[str, Any] = {"memory_limit": config.ram}
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


def _amounts(cells: Cells, plan: Plan, selections: int) -> Ints:
    """Return how much to read of each cell from its cursor on, one pass at most.

    Small quotas are met by chance, about as by a Poisson process of whole documents or parts, so
    more than ``selections`` quotas is read: some standard deviations of their sum, and one more.
    """
    amount_C = np.ceil(plan.quota_C)
    size_C = cell_sizes(cells, plan.unit)
    if selections > 1:
        mean_C = np.minimum(size_C / cells.num_docs_C, plan.part_tokens or np.inf)
        sum_C = plan.quota_C * selections
        more_C = READ_AHEAD_DEVIATIONS * (np.sqrt(sum_C * mean_C) + mean_C)
        amount_C = np.where(plan.quota_C > 0, np.ceil(sum_C + more_C), 0.0)
    return np.minimum(amount_C.astype(np.int64), size_C)


def planned_ranges(cells: Cells, plan: Plan, amount_C: Ints) -> pa.Table:
    """Return the ranges that hold the next ``amount_C`` of each cell: one or two per cell.

    Start and stop are places as the query sees them: tokens before a document in its cell, or
    rows of the order. A document in which the cursor stands is listed, at both ends of a pass.
    """
    chosen = np.flatnonzero(amount_C > 0)
    start = plan.cursors.places(plan.unit)[chosen]
    stop = start + amount_C[chosen]
    size = cell_sizes(cells, plan.unit)[chosen]
    passes = plan.cursors.passes_C[chosen]
    wraps = np.flatnonzero(stop > size)
    kind = pa.int64() if plan.unit == "docs" else pa.uint64()  # as the query's: no cast
    origin = cells.first_row_C[chosen] if plan.unit == "docs" else np.zeros_like(start)
    begun = start - plan.cursors.inside_C[chosen]
    first = np.concatenate([begun + origin, origin[wraps]])
    last = np.concatenate([np.minimum(stop, size) + origin, (stop - size + origin)[wraps]])
    return pa.table(
        {
            "cell": pa.array(np.concatenate([chosen, chosen[wraps]]), pa.uint32()),
            "uses": pa.array(np.concatenate([passes, passes[wraps] + 1]), pa.int64()),
            "start": pa.array(first, kind),
            "stop": pa.array(last, kind),
        }
    )


class _Window:
    """What was read at once: of each cell, the next ``amount_C`` from some cursors on."""

    def __init__(self, cells: Cells, plan: Plan, amount_C: Ints, rows: Rows) -> None:
        self._cells, self._amount_C, self._rows = cells, amount_C, rows
        self._kind = plan.unit, plan.part_tokens
        self._start_C = _reached(cells, plan.cursors, plan.unit)
        # The cells stand one after the other on one axis, so one search finds all places.
        self._origin_C = np.cumsum(amount_C) - amount_C
        if plan.unit == "docs":
            self._place_N = np.arange(len(rows["cell"]))
        else:
            zero_C = self._origin_C - self._start_C
            passed_N = rows["uses"] * cells.num_tokens_C[rows["cell"]]
            self._place_N = zero_C[rows["cell"]] + passed_N + rows["tokens_before"].astype(np.int64)

    def holds(self, plan: Plan) -> bool:
        """Return whether all that a plan can take was read."""
        if (plan.unit, plan.part_tokens) != self._kind:
            return False
        ahead_C = _reached(self._cells, plan.cursors, plan.unit) - self._start_C
        within_C = (ahead_C >= 0) & (ahead_C + np.ceil(plan.quota_C) <= self._amount_C)
        return bool(np.all(within_C | (plan.quota_C == 0)))

    def rows(self, plan: Plan) -> Rows:
        """Return the rows that a plan can take."""
        cell = np.flatnonzero(plan.quota_C > 0)
        begin = _reached(self._cells, plan.cursors, plan.unit) - self._start_C + self._origin_C
        first = np.searchsorted(self._place_N, begin[cell])
        stop = np.searchsorted(self._place_N, (begin + np.ceil(plan.quota_C))[cell])
        sizes = stop - first
        if sizes.sum() == len(self._place_N):
            return self._rows
        row_N = np.repeat(first - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
        return {name: values[row_N] for name, values in self._rows.items()}


def _reached(cells: Cells, cursors: Cursors, unit: Unit) -> Ints:
    """Return how much of each cell was taken so far, all passes counted."""
    return cursors.passes_C * cell_sizes(cells, unit) + cursors.places(unit)
