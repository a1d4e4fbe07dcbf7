"""The guard rails by hand, and that each that acts is counted."""

from __future__ import annotations

import math

import pytest
from console.toy import feedback, reward, section
from hypothesis import given
from hypothesis import strategies as st

from mads.console import initial_state, update
from mads.console.guards import (
    GuardedConfig,
    floored_simplex,
    limited,
    relative_entropy,
    spread_out,
)
from mads.console.paper import PaperConfig
from mads.console.stable import StableConfig


def test_the_simplex_by_hand() -> None:
    assert floored_simplex({"a": 3.0, "b": 1.0}, 0.1) == ({"a": 0.75, "b": 0.25}, 0)
    found, low = floored_simplex({"a": 8.0, "b": 1.9, "c": 0.1}, 0.05)
    assert low == 1
    assert found == pytest.approx({"a": 0.95 * 8 / 9.9, "b": 0.95 * 1.9 / 9.9, "c": 0.05})
    assert floored_simplex({"a": 1.0, "b": 0.0}, 0.9) == ({"a": 0.5, "b": 0.5}, 2)
    assert floored_simplex({"a": 0.0, "b": 0.0}, 0.0) == ({"a": 0.5, "b": 0.5}, 2)


@given(
    theta=st.lists(st.floats(0, 1e6), min_size=1, max_size=6),
    floor=st.floats(0, 1),
)
def test_theta_stays_on_the_simplex_above_its_floor(theta: list[float], floor: float) -> None:
    names = [f"a{i}" for i in range(len(theta))]
    end, _ = floored_simplex(dict(zip(names, theta, strict=True)), floor)
    assert sum(end.values()) == pytest.approx(1.0)
    assert min(end.values()) >= min(floor, 1 / len(names)) - 1e-9


def test_the_weight_limit_by_hand() -> None:
    found, moved = limited({"a": 5.0, "b": 0.5, "c": 0.5}, 2.0)
    assert found == {"a": 4.0, "b": 1.0, "c": 1.0}  # the mean is 2
    assert moved == 3
    assert limited({"a": 1.0, "b": 1.5}, 2.0) == ({"a": 1.0, "b": 1.5}, 0)
    assert limited({"a": -1.0, "b": 0.5}, 2.0) == ({"a": 1.0, "b": 1.0}, 2)


def test_relative_entropy_by_hand() -> None:
    share = {"a": 0.5, "b": 0.5}
    assert relative_entropy({"a": 1.0, "b": 1.0}, share) == pytest.approx(1.0)
    assert relative_entropy({"a": 1.0, "b": 0.0}, share) == 0.0
    quarter = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    assert relative_entropy({"a": 3.0, "b": 1.0}, share) == pytest.approx(quarter)
    assert relative_entropy({"a": 3.0, "b": 1.0}, {"a": 1.0}) == 1.0


def test_tempering_stops_at_the_least_entropy_and_keeps_the_order() -> None:
    share = {"a": 0.2, "b": 0.3, "c": 0.5}
    weights = {"a": 50.0, "b": 1.0, "c": 0.1}
    found, acted = spread_out(weights, share, 0.7)
    assert acted == 1
    assert relative_entropy(found, share) == pytest.approx(0.7, abs=1e-6)
    assert found["a"] > found["b"] > found["c"]
    assert spread_out(weights, share, 0.0) == (weights, 0)


@pytest.mark.parametrize("rule", ["bayes", "stable"])
def test_poisoned_rewards_cannot_collapse_the_weights(rule: str) -> None:
    """DoReMi's collapse to one category; every guard that acts is counted."""
    config = section(rule)
    assert isinstance(config, GuardedConfig)
    names = [f"c{i}" for i in range(7)]
    state = initial_state({"domain": names, "coin": ["heads", "tails"]})
    counts: dict[str, int] = {}
    for _ in range(20):
        poisoned = {
            "domain": {n: reward(1000.0 if n == "c0" else 0.0, 1e-6, share=1 / 7) for n in names},
            "coin": {"heads": reward(0.0, share=0.5), "tails": reward(0.0, share=0.5)},
        }
        result = update(state, feedback(poisoned), config)
        state = result.state
        for guard, count in result.guards.items():
            counts[guard] = counts.get(guard, 0) + count
    mean = sum(state.weights["domain"].values()) / 7
    assert state.weights["domain"]["c0"] <= config.weight_limit * mean * 1.5
    assert (
        relative_entropy(state.weights["domain"], dict.fromkeys(names, 1 / 7))
        >= config.min_entropy - 1e-6
    )
    assert min(state.theta.values()) >= config.theta_floor - 1e-9
    assert counts


def test_the_literal_rule_has_no_guard_rails() -> None:
    config = PaperConfig(rule="paper", theta_rate=1.0)
    state = initial_state({"q": ["a", "b"], "d": ["x", "y"]})
    rewards = {
        "q": {"a": reward(1.0), "b": reward(0.0)},
        "d": {"x": reward(0.0), "y": reward(0.0)},
    }
    result = update(state, feedback(rewards), config)
    assert result.guards == {}
    assert result.state.weights["q"]["a"] != result.state.weights["q"]["b"]
    limits = StableConfig(rule="stable", theta_rate=1.0, weight_limit=1.0, theta_floor=0.5)
    guarded = update(state, feedback(rewards), limits)
    assert guarded.state.weights["q"]["a"] == guarded.state.weights["q"]["b"]
