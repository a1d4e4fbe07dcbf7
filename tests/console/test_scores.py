"""What the console says of cells: equation 6."""

from __future__ import annotations

import numpy as np
import pytest

from mads.console.scores import cell_scores, console_cells
from mads.errors import DataError, UsageError
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
    with pytest.raises(DataError, match=r"no weight for \['x', 'y', 'z'\] of agent 'topic'"):
        cell_scores(CELLS, ConsoleState(0, {"topic": {}}, {"topic": 1.0}))
    with pytest.raises(DataError, match=r"no weight for \['quality'\] of agent 'quality'"):
        cell_scores(CELLS, ConsoleState(0, {"topic": {}}, {"quality": 1.0}))
    with pytest.raises(DataError, match=r"of the agents form, but the store has quality, topic"):
        cell_scores(CELLS, ConsoleState(0, {"form": {"x": 1.0}}, {"form": 1.0}))
    with pytest.raises(DataError, match="of the agents none, but the store"):
        cell_scores(CELLS, ConsoleState(0, {}, {}))


def test_agents_that_are_not_in_the_state_do_not_count() -> None:
    state = ConsoleState(0, {"quality": {"low": 1.0, "high": 3.0}}, {"quality": 0.5})
    assert cell_scores(CELLS, state).tolist() == [0.5, 1.5]


def test_the_cells_as_some_agents_see_them() -> None:
    assert console_cells(CELLS, ()) is CELLS
    seen = console_cells(CELLS, ("topic",))
    assert (seen.agents, seen.categories) == (("topic",), {"topic": ("x", "y", "z")})
    assert seen.category_CA.tolist() == [[2], [0]]
    assert console_cells(CELLS, ("topic", "quality")).agents == CELLS.agents
    with pytest.raises(UsageError, match=r"console\.agents: the store has no agent 'topik'; did y"):
        console_cells(CELLS, ("topik",))
