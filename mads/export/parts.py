"""A selection cut into parts for several machines, from its plan alone.

The plan names row ranges of the index's order, so part i of n is a run of these rows: the parts
are disjoint, their union is the selection, and a part reads no row group but its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mads.selection.ranges import Range
from mads.selection.take import selection_table
from mads.store.store import Store


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a plan: its row ranges and its documents, the rows of selection.parquet."""

    ranges: list[Range]
    documents: pa.Table

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents."""
        return int(self.documents["num_tokens"].to_numpy().sum())


def find_part(store: Store, ranges: Sequence[Range], index: int, count: int) -> Part:
    """List the documents of part ``index`` of ``count`` of a plan's ranges."""
    rows = part_rows(ranges, index, count)
    sizes = np.array([part.num_docs for part in rows], np.int64)
    cell_N = np.repeat(np.array([part.cell for part in rows], np.int64), sizes)
    uses_N = np.repeat(np.array([part.uses for part in rows], np.int64), sizes)
    uses_N += store.cells.prior_uses[cell_N]
    score_N = np.repeat(np.array([part.score for part in rows], np.float64), sizes)
    start_N = np.repeat(np.array([part.start_row for part in rows], np.int64), sizes)
    row_N = start_N + np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    order_N = store.cells.first_row_C[cell_N] + row_N
    found = store.order.rows(order_N, ["doc", "num_tokens", "tokens_before"])
    documents = selection_table(
        store.cells, found["doc"], cell_N, found["num_tokens"], uses_N, score_N
    )
    before_N, num_N = (found[n].astype(np.int64) for n in ("tokens_before", "num_tokens"))
    return Part(_with_tokens(rows, sizes, before_N, num_N), documents)


def part_rows(ranges: Sequence[Range], index: int, count: int) -> list[Range]:
    """Return the row ranges of part ``index`` of ``count``, with rows shared evenly.

    Their tokens are still those of the whole ranges.
    """
    total = sum(part.num_docs for part in ranges)
    low, high = total * index // count, total * (index + 1) // count
    found, done = [], 0
    for part in ranges:
        start, stop = max(low - done, 0), min(high - done, part.num_docs)
        done += part.num_docs
        if start < stop:
            first = part.start_row
            found.append(replace(part, start_row=first + start, stop_row=first + stop))
    return found


def _with_tokens(
    ranges: list[Range],
    sizes: NDArray[np.int64],
    before_N: NDArray[np.int64],
    num_N: NDArray[np.int64],
) -> list[Range]:
    """Return the ranges with the places of their first and last documents in tokens."""
    last = np.cumsum(sizes) - 1
    first = last - sizes + 1
    starts, stops = before_N[first].tolist(), (before_N + num_N)[last].tolist()
    return [
        replace(part, start_tokens=start, stop_tokens=stop)
        for part, start, stop in zip(ranges, starts, stops, strict=True)
    ]
