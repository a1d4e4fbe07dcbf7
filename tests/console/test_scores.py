"""What the console says of cells: equation 6."""

from __future__ import annotations

import numpy as np
import pytest

from mads.console.scores import cell_scores
from mads.errors import DataError
from mads.types import Cells, ConsoleState

CELLS = Cells(
    agents=("quality", "topic"),
    categories={"quality": ("low", "high"), "topic": ("x", "y", "z")},
    category_CA=np.array([[0, 2], [1, 0]], np.uint16),
    num_docs_C=np.array([1, 1]),
    num_tokens_C=np.array([1, 1]),
    first_row_C=np.array([0, 1]),
)


def test_equation_6_by_hand() -> None:
    # Names in another order than the store's: the state is keyed by name (mistake 5).
    state = ConsoleState(
        round=1,
        weights={"topic": {"z": 3.0, "y": 2.0, "x": 1.0}, "quality": {"high": 10.0, "low": 20.0}},
        theta={"topic": 0.25, "quality": 0.75},
    )
    assert cell_scores(CELLS, state) == pytest.approx([0.75 * 20 + 0.25 * 3, 0.75 * 10 + 0.25])


def test_a_state_of_another_store_is_refused() -> None:
    some = {"quality": {"low": 1.0}}
    with pytest.raises(DataError, match=r"no weight for \['high'\] of agent 'quality'.*another"):
        cell_scores(CELLS, ConsoleState(0, some, {"quality": 1.0}))
    with pytest.raises(DataError, match="agent 'quality'"):
        cell_scores(CELLS, ConsoleState(0, {"topic": {}}, {"topic": 1.0}))
