"""Documents that the query lists become the rows that a plan takes: whole, or in parts.

Training reads a long document in parts, so that a round's composition is its plan's however long
the documents are. A part is at most ``part_tokens`` consecutive tokens, counted from the
document's first one; a cursor within a document stands between two of its parts.

    document of 10 tokens, parts of 4      first_token 0 4 8, num_tokens 4 4 2, inside 4 8 0
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mads.selection.plan import Plan
from mads.types import Cells, Ints

Rows = dict[str, NDArray[Any]]
"""One value per row: doc, cell, num_tokens, tokens_before (of the order) and uses; of a plan's
rows also ``row``, the document's place in its cell, ``first_token``, the part's in the document,
and ``inside``, the tokens of the document up to the part's end, 0 when it is the document's."""


def in_parts(cells: Cells, plan: Plan, amount_C: Ints, rows: Rows) -> Rows:
    """Return the rows of the next ``amount_C`` of each cell, in the order of the documents.

    ``rows`` are the documents of the plan's ranges in the order (cell, uses, tokens_before).
    """
    row_N = _numbered(plan, rows)
    if not plan.part_tokens:
        nothing = np.zeros(len(row_N), np.int64)
        return {**rows, "row": row_N, "first_token": nothing, "inside": nothing}
    length_N = rows["num_tokens"].astype(np.int64)
    count_N = np.maximum(-(-length_N // plan.part_tokens), 1)
    at_P = np.repeat(np.arange(len(row_N)), count_N)
    first_P = (np.arange(len(at_P)) - (np.cumsum(count_N) - count_N)[at_P]) * plan.part_tokens
    end_P = np.minimum(first_P + plan.part_tokens, length_N[at_P])
    found = {name: values[at_P] for name, values in rows.items()}
    found |= {
        "num_tokens": end_P - first_P,
        "tokens_before": found["tokens_before"].astype(np.int64) + first_P,
        "row": row_N[at_P],
        "first_token": first_P,
        "inside": np.where(end_P < length_N[at_P], end_P, 0),
    }
    # Parts before the cursor were taken in the pass before, and come last in this one.
    cell_P = found["cell"].astype(np.int64)
    passed_P = found["uses"].astype(np.int64) - plan.cursors.passes_C[cell_P]
    ahead_P = passed_P * cells.num_tokens_C[cell_P] + found["tokens_before"]
    ahead_P -= plan.cursors.tokens_C[cell_P]
    mine = (ahead_P >= 0) & (ahead_P < amount_C[cell_P])
    return {name: values[mine] for name, values in found.items()}


def _numbered(plan: Plan, rows: Rows) -> Ints:
    """Return each document's place in its cell."""
    cell_N, uses_N = rows["cell"].astype(np.int64), rows["uses"].astype(np.int64)
    starts = np.flatnonzero(np.diff(cell_N, prepend=-1) | np.diff(uses_N, prepend=-1))
    goes_on = uses_N[starts] == plan.cursors.passes_C[cell_N[starts]]
    begin = np.where(goes_on, plan.cursors.row_C[cell_N[starts]], 0)
    sizes = np.diff(np.append(starts, len(cell_N)))
    row_N: Ints = np.repeat(begin - starts, sizes) + np.arange(len(cell_N))
    return row_N
