"""A damaged order is never selected from: whatever byte is flipped, it is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mads.config import SelectionConfig
from mads.errors import DataError
from mads.selection.parts import Rows
from mads.selection.plan import Cursors, Plan, make_plan
from mads.selection.query import OrderReader
from mads.selection.take import Selection
from mads.store.store import Store
from mads.units import Unit

CONFIG = SelectionConfig(policy="top", threads=1)


def cursors_at(store: Store, docs: int) -> Cursors:
    """Return cursors that stand after so many documents of each cell."""
    cells = store.cells
    start = Cursors.start(len(cells))
    budget = int(docs * len(cells))
    with OrderReader.of(store, CONFIG) as order:
        plan = make_plan(cells, np.ones(len(cells)), start, budget, CONFIG, 0, "docs")
        return order.select(plan).cursors


def select(store: Store, plan: Plan) -> Selection:
    with OrderReader.of(store, CONFIG) as order:
        return order.select(plan)


@pytest.mark.parametrize("unit", ["tokens", "docs"])
def test_every_flipped_byte_of_what_is_read_is_noticed(
    toy_store: Path, tmp_path: Path, unit: Unit
) -> None:
    shutil.copytree(toy_store, tmp_path / "store")
    store = Store(tmp_path / "store")
    cells, cursors = store.cells, cursors_at(store, 3)
    budget = 150 if unit == "docs" else int(cells.num_tokens_C.sum()) // 2
    score_C = np.arange(len(cells), dtype=np.float64)
    plan = make_plan(cells, score_C, cursors, budget, CONFIG, 0, unit)
    with OrderReader.of(store, CONFIG) as order:
        expected = order.select(plan)
    path = store.index.order
    whole = path.read_bytes()
    for place in range(0, len(whole), 11):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(DataError, match=r"order\.parquet "):
            select(Store(store.dir.root), plan)
    path.write_bytes(whole)
    assert select(Store(store.dir.root), plan).doc_N.tolist() == expected.doc_N.tolist()


@pytest.mark.parametrize("hidden", ["first", "middle", "last", "all"])
@pytest.mark.parametrize("unit", ["tokens", "docs"])
def test_hidden_rows_are_missed(toy_store: Path, unit: Unit, hidden: str) -> None:
    store = Store(toy_store)
    cells = store.cells
    budget = 100 if unit == "docs" else int(cells.num_tokens_C.sum()) // 3
    plan = make_plan(cells, np.ones(len(cells)), Cursors.start(len(cells)), budget, CONFIG, 0, unit)
    reader = OrderReader(store.order.path, cells, CONFIG)
    read = reader._read

    def without(ranges: pa.Table, unit: Unit) -> Rows:
        rows = read(ranges, unit)
        mine = np.flatnonzero(rows["cell"] == rows["cell"][len(rows["cell"]) // 2])
        gone = {"first": mine[:1], "middle": mine[1:2], "last": mine[-1:], "all": mine}[hidden]
        return {name: np.delete(values, gone) for name, values in rows.items()}

    reader._read = without  # type: ignore[method-assign]
    with pytest.raises(DataError, match=r"does not list all documents of cell .* --verify"):
        reader.select(plan)


def test_a_cell_that_is_read_from_its_cursor_and_again_from_its_start(toy_store: Path) -> None:
    store = Store(toy_store)
    cells = store.cells
    total = int(cells.num_tokens_C.sum())
    with OrderReader.of(store, CONFIG) as order:
        cursors = Cursors.start(len(cells))
        for _ in range(5):  # each takes two thirds: cells wrap round
            plan = make_plan(cells, np.ones(len(cells)), cursors, total * 2 // 3, CONFIG, 0)
            cursors = order.select(plan).cursors
    assert int(cursors.passes_C.min()) >= 2
