"""What every update rule must do."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from console.toy import feedback, reward, section

from mads.console import RULES, initial_state, update, with_agent
from mads.console.state import console_to_json, read_console
from mads.errors import DataError
from mads.files import write_sealed_json
from mads.types import CategoryReward, ConsoleState

CATEGORIES = {"quality": ["bad", "good"], "domain": ["web", "code", "novels"]}


@pytest.fixture(params=sorted(RULES))
def rule(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_helpful_gains_and_harmful_loses(rule: str) -> None:
    """Mistake 2: a larger reference loss raised a weight."""
    state = initial_state(CATEGORIES)
    for _ in range(4):
        rewards = {
            "quality": {"bad": reward(-1.0), "good": reward(1.0)},
            "domain": {"web": reward(0.0), "code": reward(-1.0), "novels": reward(1.0)},
        }
        state = update(state, feedback(rewards), section(rule)).state
    assert state.weights["quality"]["good"] > state.weights["quality"]["bad"]
    domain = state.weights["domain"]
    assert domain["novels"] > domain["web"] > domain["code"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rewards_that_are_not_finite_refuse_the_round(rule: str, bad: float) -> None:
    """Mistake 6: NaN and empty categories crashed or passed through."""
    state = initial_state(CATEGORIES)
    state = ConsoleState(
        4, {"quality": {"bad": 0.5, "good": 2.0}, "domain": state.weights["domain"]}, state.theta
    )
    for broken in (reward(bad), reward(0.1, stderr=bad)):
        rewards = {"quality": {"bad": reward(1.0), "good": broken}}
        result = update(state, feedback(rewards), section(rule))
        assert result.refused == "rewards that are not finite: quality/good"
        assert result.state == ConsoleState(5, state.weights, state.theta)


def test_no_rewards_refuse_the_round(rule: str) -> None:
    state = initial_state(CATEGORIES)
    empty: list[dict[str, dict[str, CategoryReward]]] = [{}, {"quality": {}}]
    for nothing in empty:
        result = update(state, feedback(nothing), section(rule))
        assert result.refused == "no category was probed"
        assert result.state == ConsoleState(1, state.weights, state.theta)


def test_a_category_that_was_not_probed_keeps_its_weight(rule: str) -> None:
    state = initial_state(CATEGORIES)
    rewards = {"domain": {"web": reward(1.0), "code": reward(-1.0)}}
    end = update(state, feedback(rewards), section(rule)).state
    assert end.weights["domain"]["novels"] == 1.0
    assert end.weights["quality"] == {"bad": 1.0, "good": 1.0}
    assert end.weights["domain"]["code"] < 1.0


def test_an_update_leaves_its_input_alone(rule: str) -> None:
    state = initial_state(CATEGORIES)
    rewards = {"quality": {"bad": reward(-1.0), "good": reward(1.0)}}
    update(state, feedback(rewards), section(rule))
    assert state == initial_state(CATEGORIES)


def test_the_initial_state_is_equal() -> None:
    state = initial_state(CATEGORIES)
    assert state.theta == {"quality": 0.5, "domain": 0.5}
    assert {w for table in state.weights.values() for w in table.values()} == {1.0}


def test_a_state_says_which_rule_made_it_and_no_other_goes_on(rule: str) -> None:
    state = initial_state(CATEGORIES)
    rewards = {"domain": {"web": reward(1.0), "code": reward(-1.0)}}
    state = update(state, feedback(rewards), section(rule)).state
    assert (state.rule, state.round) == (rule, 1)
    (other, *_) = sorted(set(RULES) - {rule})
    with pytest.raises(
        DataError, match=f"made by the rule '{rule}', but console.rule is '{other}'"
    ):
        update(state, feedback(rewards), section(other))


def test_an_agent_may_appear_in_the_middle_of_a_run(rule: str, tmp_path: Path) -> None:
    """Nothing changes for the others, and the rule goes on with all of them."""
    state = initial_state(CATEGORIES)
    rewards = {
        "quality": {"bad": reward(-1.0), "good": reward(1.0)},
        "domain": {"web": reward(1.0), "code": reward(-1.0), "novels": reward(0.2)},
    }
    state = update(state, feedback(rewards), section(rule)).state
    grown = with_agent(state, "influence", ["r1", "r2"])
    assert {a: grown.weights[a] for a in CATEGORIES} == state.weights
    assert {a: grown.theta[a] for a in CATEGORIES} == state.theta
    assert grown.weights["influence"] == {"r1": 1.0, "r2": 1.0}
    assert grown.theta["influence"] == pytest.approx(0.5)
    assert with_agent(grown, "influence", ["r1", "r2"]) == grown
    path = tmp_path / "console.json"
    write_sealed_json(path, console_to_json(grown))
    assert read_console(path) == grown
    helpful = {"influence": {"r1": reward(-1.0), "r2": reward(1.0)}}
    for _ in range(2):
        grown = update(grown, feedback(rewards | helpful), section(rule)).state
    assert grown.weights["influence"]["r2"] > grown.weights["influence"]["r1"]
    assert grown.weights["quality"]["good"] > grown.weights["quality"]["bad"]


def test_the_state_survives_its_json(rule: str, tmp_path: Path) -> None:
    """Also what the rule remembers: the next round is the same."""
    state = initial_state(CATEGORIES)
    for mean in (1.0, -0.5):
        rewards = {"domain": {"web": reward(mean), "code": reward(-1.0)}}
        state = update(state, feedback(rewards), section(rule)).state
    path = tmp_path / "console.json"
    write_sealed_json(path, console_to_json(state))
    assert read_console(path) == state
