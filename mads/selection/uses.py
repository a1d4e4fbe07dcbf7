"""How often every document was selected, counted out from cells and cursors.

A new generation regroups documents, so what the cursors say of cells must become a number for each
document: the prior uses of its cell, the passes of its cell, and one more if it stands before the
cursor. A document within which a cursor stands was not read to its end: it counts as not yet taken
in this pass, and is begun anew (as in ``Cursors.whole``).

    prior use 2, passes 1, cursor at row 3: rows 0 to 2 were selected 4 times, the others 3 times
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mads.selection.plan import Cursors
from mads.store.build import PriorUses
from mads.store.store import Store
from mads.types import ROW_BITS, Cells, Ints

_ROW = np.uint64((1 << ROW_BITS) - 1)
_MOST = np.iinfo(np.uint16).max  # different numbers of uses, far more than any run has


def uses_at(cells: Cells, cursors: Cursors, row_N: Ints) -> Ints:
    """Return how often the documents at rows of the order were selected so far."""
    cell_N = np.searchsorted(cells.first_row_C, row_N, side="right") - 1
    before_N = row_N - cells.first_row_C[cell_N] < cursors.row_C[cell_N]
    uses_N: Ints = cells.prior_uses[cell_N] + cursors.passes_C[cell_N] + before_N
    return uses_N


def prior_uses(store: Store, cursors: Cursors) -> PriorUses:
    """Return how often each document of a store was selected, for its next generation.

    Takes two bytes of RAM for each row of the corpus. Raises DataError for a damaged order.
    """
    passed_C = store.cells.prior_uses + cursors.passes_C
    values = np.unique(np.concatenate([passed_C, passed_C[cursors.row_C > 0] + 1]))
    assert len(values) <= _MOST
    first_S = np.cumsum([0, *(shard.num_rows for shard in store.spec.shards)])
    place_R: NDArray[np.uint16] = np.zeros(first_S[-1], np.uint16)  # what is not selectable: 0
    for first, doc_N in store.order.groups():
        uses_N = uses_at(store.cells, cursors, first + np.arange(len(doc_N)))
        shard_N, row_N = (doc_N >> np.uint64(ROW_BITS)), (doc_N & _ROW)
        at_N = first_S[shard_N.astype(np.int64)] + row_N.astype(np.int64)
        place_R[at_N] = np.searchsorted(values, uses_N)
    return PriorUses(tuple(values.tolist()), place_R)
