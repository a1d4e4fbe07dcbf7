"""What every strategy must do, over the whole dictionary."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import planted
import pytest
from console.toy import feedback, reward

from mads.config import Recipe
from mads.errors import DataError
from mads.files import write_sealed_json
from mads.recipe import recipe_from_table
from mads.strategies import STRATEGIES, read_strategy
from mads.strategies.strategy import Evidence, Strategy
from mads.types import Cells, TrainingLosses

CELLS = Cells(
    agents=("kind",),
    categories={"kind": ("a", "b")},
    category_CA=np.array([[0], [1]], np.uint16),
    num_docs_C=np.array([3, 2]),
    num_tokens_C=np.array([30, 20]),
    first_row_C=np.array([0, 3]),
)
RECIPE = recipe_from_table({"console": {"prior": {"kind": {"b": 2.0}}}}, "test")
RECIPES = {
    "mixture": recipe_from_table(
        {"strategy": "mixture", "mixture": {"kind": {"a": 0.25, "b": 0.75}}}, "test"
    ),
    "odm": recipe_from_table({"strategy": "odm", "odm": {"agent": "kind"}}, "test"),
}
"""Of strategies that need a section of their own."""
EVIDENCE = {
    Evidence.CATEGORY_LOSSES: TrainingLosses("kind", {"a": 90.0, "b": 10.0}, {"a": 9.0, "b": 9.0})
}
REWARDS = feedback({"kind": {"a": reward(1.0), "b": reward(-1.0)}})


@pytest.fixture(params=sorted(STRATEGIES))
def strategy(request: pytest.FixtureRequest) -> Strategy:
    return STRATEGIES[request.param].start(CELLS, RECIPES.get(request.param, RECIPE))


def updated(strategy: Strategy) -> Strategy:
    return strategy.updated(EVIDENCE.get(strategy.needs, REWARDS)).strategy


def test_its_name_is_its_key(strategy: Strategy) -> None:
    assert STRATEGIES[strategy.name] is type(strategy)


def test_it_scores_every_cell_in_every_round(strategy: Strategy) -> None:
    assert strategy.round == 0
    later = strategy.next_round()
    assert later.round == 1
    assert later.scores(CELLS).shape == (2,)
    assert later.scores(CELLS).tolist() == strategy.scores(CELLS).tolist()


def test_an_update_ends_in_the_next_round_and_leaves_its_input_alone(strategy: Strategy) -> None:
    before = strategy.to_json()
    after = updated(strategy)
    assert after.round == 1
    assert strategy.to_json() == before
    for _ in range(3):
        after = updated(after)
    moved = after.scores(CELLS).tolist() != strategy.scores(CELLS).tolist()
    assert (moved or after.shares != strategy.shares) == (strategy.needs is not Evidence.NOTHING)
    assert bool(strategy.losses_of) == (strategy.needs is Evidence.CATEGORY_LOSSES)


def test_its_state_survives_its_file(strategy: Strategy, tmp_path: Path) -> None:
    for one in (strategy, updated(strategy)):
        write_sealed_json(tmp_path / "console.json", one.to_json())
        assert read_strategy(tmp_path / "console.json", RECIPE) == one


def test_its_state_names_it(strategy: Strategy) -> None:
    assert strategy.to_json()["strategy"] == strategy.name
    assert strategy.to_json()["round"] == strategy.round


def test_shares_are_of_all_categories_of_an_agent_and_add_up_to_one(strategy: Strategy) -> None:
    for agent, shares in strategy.shares.items():
        assert tuple(shares) == CELLS.categories[agent]
        assert sum(shares.values()) == pytest.approx(1.0, abs=1e-6)
    assert not (strategy.shares and strategy.weights)


def test_weights_are_of_all_agents_or_of_none(strategy: Strategy) -> None:
    assert strategy.weights.keys() == strategy.theta.keys()
    assert set(strategy.weights) in (set(CELLS.agents), set())


def read(path: Path, value: object, recipe: Recipe = RECIPE, *, by_hand: bool = False) -> Strategy:
    path.write_text(json.dumps(value))
    return read_strategy(path, recipe, by_hand=by_hand)


def test_a_state_that_names_no_strategy(tmp_path: Path) -> None:
    path = tmp_path / "console.json"
    write_sealed_json(path, {"strategy": "consol", "round": 1})
    with pytest.raises(DataError, match=r"names no strategy: found 'consol'; did you mean 'conso"):
        read_strategy(path, RECIPE)
    write_sealed_json(path, {"round": 1, "theta": {}, "weights": {}})
    with pytest.raises(DataError, match="names no strategy: found None"):
        read_strategy(path, RECIPE)
    write_sealed_json(path, {"strategy": "random", "round": -1})
    with pytest.raises(
        DataError, match=r"is not a state of the strategy 'random': round: found -1"
    ):
        read_strategy(path, RECIPE)


def test_a_state_by_hand_is_a_console_where_it_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "console.json"
    mine = {"round": 0, "theta": {"kind": 1.0}, "weights": {"kind": {"a": 3.0, "b": 0.5}}}
    assert read(path, mine, by_hand=True).scores(CELLS).tolist() == [3.0, 0.5]
    with pytest.raises(DataError, match="has no 'sha256'"):
        read(path, mine)


def test_the_planted_recipe_follows_the_console(tmp_path: Path) -> None:
    assert planted.recipe(tmp_path).strategy == "console"
