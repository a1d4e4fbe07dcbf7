"""From planned rows to a selection: quotas are rounded to whole documents, cursors are moved."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mads.selection.parts import Rows
from mads.selection.plan import ROUNDING, Cursors, Plan, decayed
from mads.selection.ranges import Range
from mads.selection.rounding import shared_out
from mads.types import Cells, Floats, Ints

SELECTION_SCHEMA = pa.schema(
    {
        "doc": pa.uint64(),
        "cell": pa.uint32(),
        "num_tokens": pa.uint32(),
        "times_selected": pa.uint32(),  # before this selection
        "score": pa.float64(),
    }
)
"""The columns of selection.parquet that every store has; a category column per agent follows."""
FIRST_TOKEN = pa.field("first_token", pa.uint32())
"""A column of a run's: where in its document a part begins, of ``num_tokens``."""
STEP = pa.field("step", pa.uint64())
"""The last column of a run's: the optimizer step from which on a part is read."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected documents or parts (suffix N), cell after cell, and the cursors after them."""

    doc_N: NDArray[np.uint64]
    cell_N: Ints
    first_token_N: Ints  # of the part in its document
    num_tokens_N: Ints
    uses_N: Ints  # times it was selected before
    score_N: Floats
    ranges: list[Range]
    cursors: Cursors

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents or parts."""
        return int(self.num_tokens_N.sum())

    def to_table(self, cells: Cells) -> pa.Table:
        """Return the rows of selection.parquet, with one category column per agent."""
        columns = self.doc_N, self.cell_N, self.num_tokens_N, self.uses_N, self.score_N
        return selection_table(cells, *columns)


def selection_table(
    cells: Cells,
    doc_N: NDArray[np.uint64],
    cell_N: Ints,
    num_tokens_N: NDArray[Any],
    uses_N: Ints,
    score_N: Floats,
) -> pa.Table:
    """Return the rows of selection.parquet, with one category column per agent."""
    arrays = doc_N, cell_N, num_tokens_N, uses_N, score_N
    columns = {
        field.name: pa.array(array, field.type)
        for field, array in zip(SELECTION_SCHEMA, arrays, strict=True)
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


def take(cells: Cells, plan: Plan, rows: Rows, decay: float) -> Selection:
    """Round the quotas of cut cells to whole rows and move the cursors.

    ``rows`` are the planned ranges' documents or parts in the order (cell, uses, tokens_before),
    that is, in the order in which a cell is taken.
    """
    cell_N = rows["cell"].astype(np.int64)
    bounds = np.searchsorted(cell_N, np.arange(len(cells) + 1))
    count_C = np.diff(bounds)
    if len(plan.cut):
        size_N = rows["num_tokens"] if plan.unit == "tokens" else np.ones(len(cell_N), np.int64)
        if plan.part_tokens:
            count_C[plan.cut] = shared_out(cells, plan, size_N, bounds)
        else:
            count_C[plan.cut] = _rounded(plan, size_N, bounds)
    keep = np.arange(len(cell_N)) - bounds[cell_N] < count_C[cell_N]
    chosen = {name: values[keep] for name, values in rows.items()}
    cell_N, passes_N = (chosen[name].astype(np.int64) for name in ("cell", "uses"))
    uses_N = cells.prior_uses[cell_N] + passes_N
    score_N = decayed(plan.score_C[cell_N], uses_N, decay)
    ranges, inside = _row_ranges(chosen, score_N)
    return Selection(
        doc_N=chosen["doc"],
        cell_N=cell_N,
        first_token_N=chosen["first_token"],
        num_tokens_N=chosen["num_tokens"].astype(np.int64),
        uses_N=uses_N,
        score_N=score_N,
        ranges=ranges,
        cursors=_moved(cells, plan.cursors, ranges, inside),
    )


def _rounded(plan: Plan, size_N: NDArray[Any], bounds: Ints) -> list[int]:
    """Return the number of documents to take of each cell of ``plan.cut``."""
    before_N = np.concatenate(([0], np.cumsum(size_N, dtype=np.int64)))
    whole = plan.whole_C[plan.cut]
    goal = np.cumsum(plan.quota_C[plan.cut] - whole)
    if plan.unit == "docs":  # the last goal is a whole number, but for floating point and caps
        others = round(float(plan.quota_C.sum() - goal[-1]))
        goal = np.minimum(goal, plan.total - others)
    goals = goal.tolist()
    begin, end = bounds[plan.cut], bounds[plan.cut + 1]
    # Levels that are taken whole come first in their cell and count towards no goal.
    first = np.searchsorted(before_N, before_N[begin] + whole)
    counts: list[int] = (first - begin).tolist()
    taken, at = 0, bisect_right(goals, ROUNDING)
    while at < len(goals):  # cells whose goal is reached already take nothing and are skipped
        start = int(first[at])
        wanted = before_N[start] + goals[at] - taken - ROUNDING
        stop = bisect_left(before_N, wanted, start, int(end[at]))
        counts[at] += stop - start
        taken += int(before_N[stop] - before_N[start])
        at = max(at + 1, bisect_right(goals, taken + ROUNDING))
    return counts


def _row_ranges(rows: Rows, score_N: Floats) -> tuple[list[Range], list[int]]:
    """Return the runs of consecutive rows of a cell with equal use, and their scores.

    Besides, how many tokens of a run's last document are taken; 0 when it is taken to its end.
    """
    cell_N, uses_N = rows["cell"].astype(np.int64), rows["uses"].astype(np.int64)
    if not len(cell_N):
        return [], []
    starts = np.flatnonzero(np.diff(cell_N, prepend=-1) | np.diff(uses_N, prepend=-1))
    last = np.append(starts[1:], len(cell_N)) - 1
    before, num = rows["tokens_before"].astype(np.int64), rows["num_tokens"].astype(np.int64)
    columns = (
        cell_N[starts],
        uses_N[starts],
        score_N[starts],
        rows["row"][starts],
        rows["row"][last] + 1,
        before[starts],
        before[last] + num[last],
    )
    ranges = [Range(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    return ranges, rows["inside"][last].tolist()


def _moved(cells: Cells, cursors: Cursors, ranges: list[Range], insides: list[int]) -> Cursors:
    passes_C, row_C, tokens_C, inside_C = (
        array.copy()
        for array in (cursors.passes_C, cursors.row_C, cursors.tokens_C, cursors.inside_C)
    )
    for part, inside in zip(ranges, insides, strict=True):  # a cell's second one comes later
        whole = part.stop_row == int(cells.num_docs_C[part.cell]) and not inside
        passes_C[part.cell] = part.uses + whole
        row_C[part.cell] = 0 if whole else part.stop_row - (inside > 0)
        tokens_C[part.cell] = 0 if whole else part.stop_tokens
        inside_C[part.cell] = inside
    return Cursors(passes_C, row_C, tokens_C, inside_C)
