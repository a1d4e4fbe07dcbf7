"""Parts of a selection: disjoint, together the whole, each from its own rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from mads.config import SelectionConfig
from mads.export.parts import find_part, part_rows
from mads.selection.plan import Cursors, make_plan
from mads.selection.query import OrderReader
from mads.selection.ranges import Range
from mads.store.store import Store


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    count=st.integers(1, 12),
)
def test_parts_are_disjoint_and_complete(sizes: list[int], count: int) -> None:
    ranges = [
        Range(i, 0, 0.0, 5 * i, 5 * i + size, 50 * i, 50 * i + size) for i, size in enumerate(sizes)
    ]

    def rows(found: list[Range]) -> list[tuple[int, int]]:
        return [(r.cell, row) for r in found for row in range(r.start_row, r.stop_row)]

    parts = [rows(part_rows(ranges, i, count)) for i in range(count)]
    assert [row for part in parts for row in part] == rows(ranges)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_parts_of_a_selection_have_its_documents_and_tokens(store: Path) -> None:
    """Also the places in tokens of ranges that a part cuts, and a part without documents."""
    opened = Store(store)
    cells, config = opened.cells, SelectionConfig(policy="top", threads=1)
    plan = make_plan(cells, np.arange(len(cells)) / 7, Cursors.start(len(cells)), 3000, config, 0)
    with OrderReader(opened.order.path, cells, config) as order:
        whole = order.select(plan)
    for count in (1, 3, 7, 500):
        parts = [find_part(opened, whole.ranges, i, count) for i in range(count)]
        tables = [part.documents for part in parts]
        assert pa.concat_tables(tables).to_pylist() == whole.to_table(cells).to_pylist()
        for part in parts:
            assert part.num_tokens == sum(r.num_tokens for r in part.ranges)
            assert part.documents.num_rows == sum(r.num_docs for r in part.ranges)
            for one in part.ranges:
                first = int(cells.first_row_C[one.cell])
                rows = np.arange(first + one.start_row, first + one.stop_row)
                found = opened.order.rows(rows, ["tokens_before", "num_tokens"])
                assert int(found["tokens_before"][0]) == one.start_tokens
                assert int(found["num_tokens"].sum()) == one.num_tokens
