"""What DuckDB does not check of the rows that it lists is checked beside it.

DuckDB verifies neither a file's pages nor its footer. The footer is compared with its seal before
(``mads/index/order.py``); here it is seen that the rows of every planned range are all there, and
the bytes that hold them are compared with their checksums. So a flipped bit can neither change
nor hide a row.

    range: cell 3 from token 120 on      rows listed (tokens before, tokens): 120 20 | 140 9 | …
    each begins where the one before ends, the first at the range's start, the last reaches its end
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mads.errors import DataError
from mads.selection.parts import Rows
from mads.selection.plan import Cursors
from mads.types import Cells, Ints
from mads.units import Unit

CheckBytes = Callable[[Ints], None]
"""Told runs of rows of the order, shape (R, 2): first and end; raises DataError for damage."""

REMEDY = "Run the same `mads annotate --verify`; it rebuilds the index."


def check_rows(
    order: Path,
    cells: Cells,
    cursors: Cursors,
    ranges: pa.Table,
    rows: Rows,
    unit: Unit,
    check_bytes: CheckBytes,
    remedy: str = REMEDY,
) -> None:
    """Raise DataError unless the rows are those of the planned ranges, byte for byte.

    ``ranges`` are those of the query (``planned_ranges``) that listed ``rows`` in the order
    (cell, uses, tokens before).
    """
    cell_R, uses_R, start_R, stop_R = (
        ranges[name].to_numpy().astype(np.int64) for name in ("cell", "uses", "start", "stop")
    )
    cell_N, uses_N = rows["cell"].astype(np.int64), rows["uses"].astype(np.int64)
    before_N = rows["tokens_before"].astype(np.int64)
    end_N = before_N + rows["num_tokens"].astype(np.int64)
    first_pass_C = cursors.passes_C
    key_N = _keys(cell_N, uses_N, first_pass_C)
    key_R = _keys(cell_R, uses_R, first_pass_C)
    begin_R = np.searchsorted(key_N, key_R, side="left")
    count_R = np.searchsorted(key_N, key_R, side="right") - begin_R
    whole_R = count_R > 0
    last_R = begin_R + np.maximum(count_R, 1) - 1
    # Where a range begins: the cursor's row, or the cell's first one where it begins again.
    goes_on_R = uses_R == first_pass_C[cell_R]
    row_R = cells.first_row_C[cell_R] + np.where(goes_on_R, cursors.row_C[cell_R], 0)
    if len(key_N):
        inside_R = np.where(goes_on_R, cursors.inside_C[cell_R], 0)
        starts_R = np.where(goes_on_R, cursors.tokens_C[cell_R], 0) - inside_R
        first_R = np.minimum(begin_R, len(key_N) - 1)
        whole_R &= (before_N[first_R] == starts_R) & (starts_R + inside_R < end_N[first_R])
        if unit == "tokens":
            whole_R &= end_N[np.minimum(last_R, len(key_N) - 1)] >= stop_R
    if unit == "docs":
        whole_R &= count_R == stop_R - start_R
    breaks = np.flatnonzero(before_N[1:] != end_N[:-1]) + 1
    stray = np.setdiff1d(breaks, begin_R)
    check_bytes(np.stack([row_R, row_R + count_R], axis=1))
    if not whole_R.all() or len(stray) or int(count_R.sum()) != len(key_N):
        cell = int(cell_R[~whole_R][0]) if not whole_R.all() else int(cell_N[stray[0]])
        raise DataError(
            f"{order} is damaged: it does not list all documents of cell {cell} that are planned. "
            f"{remedy}"
        )


def _keys(cell: Ints, uses: Ints, first_pass_C: Ints) -> NDArray[Any]:
    """Return one number for each cell and pass, in the order in which the rows stand."""
    keys: Ints = 2 * cell + (uses != first_pass_C[cell])
    return keys


def unchecked(rows: Ints) -> None:
    """Compare nothing: for an order that was made up and has no checksums."""
    del rows
