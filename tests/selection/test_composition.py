"""Shares of tokens by category."""

from __future__ import annotations

import numpy as np

from mads.selection.composition import composition
from mads.types import Cells


def test_composition_by_hand() -> None:
    cells = Cells(
        agents=("q", "t"),
        categories={"q": ("lo", "hi"), "t": ("x",)},
        category_CA=np.array([[0, 0], [1, 0]], np.uint16),
        num_docs_C=np.array([1, 1]),
        num_tokens_C=np.array([30, 10]),
        first_row_C=np.array([0, 1]),
    )
    found = composition(cells, cells.num_tokens_C, np.array([10.0, 10.0]))
    assert found == {"q": {"lo": [0.75, 0.5], "hi": [0.25, 0.5]}, "t": {"x": [1.0, 1.0]}}
