"""Scores and state of strategies with weights."""

from __future__ import annotations

import numpy as np
import pytest

from mads.config import ConsoleConfig
from mads.errors import DataError
from mads.strategies.console import Console
from mads.strategies.fixed import Fixed
from mads.strategies.weighted import Weighted
from mads.types import Cells, ConsoleState

CELLS = Cells(
    agents=("kind", "coin"),
    categories={"kind": ("a", "b"), "coin": ("heads", "tails")},
    category_CA=np.array([[0, 0], [1, 0], [1, 1]], np.uint16),
    num_docs_C=np.array([3, 2, 1]),
    num_tokens_C=np.array([30, 20, 10]),
    first_row_C=np.array([0, 3, 5]),
)
STATE = ConsoleState(
    round=4,
    weights={"kind": {"a": 2.0, "b": 0.5}, "coin": {"heads": 1.0, "tails": 4.0}},
    theta={"kind": 0.75, "coin": 0.25},
)


def made() -> list[Weighted]:
    return [Fixed(STATE), Console(STATE, ConsoleConfig("bayes"))]


@pytest.mark.parametrize("strategy", made())
def test_scores_add_theta_times_weight_over_agents(strategy: Weighted) -> None:
    # 0.75 * 2 + 0.25 * 1; 0.75 * 0.5 + 0.25 * 1; 0.75 * 0.5 + 0.25 * 4
    assert strategy.scores(CELLS).tolist() == [1.75, 0.625, 1.375]


@pytest.mark.parametrize("strategy", made())
def test_the_next_round_has_the_same_weights(strategy: Weighted) -> None:
    after = strategy.next_round()
    assert type(after) is type(strategy)
    assert (strategy.round, after.round) == (4, 5)
    assert after.weights == STATE.weights
    assert after.theta == STATE.theta
    assert after.scores(CELLS).tolist() == strategy.scores(CELLS).tolist()


@pytest.mark.parametrize("strategy", made())
def test_its_json_holds_round_theta_and_weights_by_name(strategy: Weighted) -> None:
    value = strategy.to_json()
    assert (value["strategy"], value["round"]) == (strategy.name, 4)
    assert (value["theta"], value["weights"]) == (STATE.theta, STATE.weights)


def test_cells_of_other_agents_are_refused() -> None:
    state = ConsoleState(0, {"koin": STATE.weights["kind"]}, {"koin": 1.0})
    with pytest.raises(DataError, match="of the agents koin, but the store has kind, coin"):
        Fixed(state).scores(CELLS)
