"""Cells have one column of categories for each agent, and begin where the one before ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mads.errors import DataError
from mads.index.cells import cells_schema, read_cells, write_cells
from mads.sealed import Seal, read_seal, write_sealed

AGENTS = {"kind": ("a", "b"), "size": ("small", "large")}


def write(path: Path) -> Seal:
    categories = np.array([[0, 1], [1, 0], [1, 1]], np.uint16)
    write_cells(
        path, AGENTS, categories, np.array([2, 3, 4]), np.array([20, 30, 40]), np.array([0, 0, 2])
    )
    return read_seal(path)


def test_cells_survive_the_round_trip(tmp_path: Path) -> None:
    seal = write(tmp_path / "cells.parquet")
    cells = read_cells(tmp_path / "cells.parquet", AGENTS, seal)
    assert cells.agents == ("kind", "size")
    assert cells.categories == {"kind": ("a", "b"), "size": ("small", "large")}
    assert cells.category_CA.tolist() == [[0, 1], [1, 0], [1, 1]]
    assert cells.num_docs_C.tolist() == [2, 3, 4]
    assert cells.num_tokens_C.tolist() == [20, 30, 40]
    assert cells.first_row_C.tolist() == [0, 2, 5]
    assert cells.prior_uses.tolist() == [0, 0, 2]
    assert cells_schema(AGENTS).names == [
        "cell",
        "kind",
        "size",
        "uses",
        "num_docs",
        "num_tokens",
        "first_row",
    ]


def test_cells_of_other_agents_are_refused(tmp_path: Path) -> None:
    seal = write(tmp_path / "cells.parquet")
    with pytest.raises(
        DataError, match=r"cells\.parquet has the columns .*, expected \['cell', 'ki"
    ):
        read_cells(tmp_path / "cells.parquet", {"kind": AGENTS["kind"]}, seal)


def test_cells_of_before_there_were_prior_uses_were_never_used(tmp_path: Path) -> None:
    path = tmp_path / "cells.parquet"
    write(path)
    older = pq.read_table(path).drop_columns(["uses"]).replace_schema_metadata(None)
    write_sealed(path, older)
    cells = read_cells(path, AGENTS, read_seal(path))
    assert cells.prior_uses.tolist() == [0, 0, 0]
    assert cells.num_docs_C.tolist() == [2, 3, 4]


def test_no_agent_is_one_cell(tmp_path: Path) -> None:
    path = tmp_path / "cells.parquet"
    write_cells(
        path, {}, np.zeros((1, 0), np.uint16), np.array([2]), np.array([9]), np.zeros(1, np.int64)
    )
    assert read_cells(path, {}, read_seal(path)).category_CA.shape == (1, 0)
