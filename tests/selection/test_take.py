"""Quotas become whole documents, and cursors move past them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from selection.toy import make_cells, planned_rows

from mads.config import SelectionConfig
from mads.selection.plan import Cursors, make_plan
from mads.selection.take import SELECTION_SCHEMA, take

CONFIG = SelectionConfig(policy="top")


def test_a_selection_by_hand() -> None:
    cells, order = make_cells([[4, 6], [5, 5, 5]])
    plan = make_plan(cells, np.array([2.0, 1.0]), Cursors.start(2), 17, CONFIG, seed=0)
    found = take(cells, plan, planned_rows(cells, order, plan), CONFIG.decay)
    # All 10 tokens of the better cell, then two documents to reach the 7 that are left.
    assert found.cell_N.tolist() == [0, 0, 1, 1]
    assert found.doc_N.tolist() == order["doc"][:4].tolist()
    assert found.num_tokens == 20
    assert [(r.cell, r.uses, r.start_row, r.stop_row) for r in found.ranges] == [
        (0, 0, 0, 2),
        (1, 0, 0, 2),
    ]
    assert found.cursors.passes_C.tolist() == [1, 0]  # the first cell begins again
    assert (found.cursors.row_C.tolist(), found.cursors.tokens_C.tolist()) == ([0, 2], [0, 10])
    table = found.to_table(cells)
    assert table.column_names == [*SELECTION_SCHEMA.names, "a"]
    assert table["a"].to_pylist() == ["c0", "c0", "c1", "c1"]
    assert table["score"].to_pylist() == pytest.approx([2, 2, 1, 1])


def test_a_budget_of_documents_is_met_exactly() -> None:
    cells, order = make_cells([[9] * 5, [1] * 5, [3] * 5])
    for budget in range(1, 16):
        plan = make_plan(cells, np.ones(3), Cursors.start(3), budget, CONFIG, budget, "docs")
        found = take(cells, plan, planned_rows(cells, order, plan), CONFIG.decay)
        assert len(found.doc_N) == budget


def test_nothing_planned_is_nothing_taken() -> None:
    cells, order = make_cells([[4]])
    done = replace(Cursors.start(1), passes_C=np.array([1]))
    config = SelectionConfig(policy="top", max_passes=1)
    plan = make_plan(cells, np.ones(1), done, 5, config, 0)
    found = take(cells, plan, planned_rows(cells, order, plan), config.decay)
    assert (len(found.doc_N), found.ranges, found.num_tokens) == (0, [], 0)
