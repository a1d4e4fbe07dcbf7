"""Equations 5, 7 and 8 by hand, and the published code's mistakes about them."""

from __future__ import annotations

import pytest
from console.toy import feedback

from mads.console import initial_state, update
from mads.console.paper import (
    PaperConfig,
    agent_reward,
    category_weight,
    collaborative_weights,
)
from mads.types import CategoryReward, ConsoleState

CONFIG = PaperConfig(rule="paper", weight_rate=0.1, theta_rate=0.1)


def reward(mean: float, stderr: float = 0.1) -> CategoryReward:
    return CategoryReward(mean, stderr, num_docs=10, share=0.5)


def test_equation_5_by_hand() -> None:
    assert category_weight(2.0, 0.5, 0.1) == pytest.approx(0.9 * 2.0 + 0.1 * 0.5)


def test_equation_7_by_hand_counts_every_category() -> None:
    """Mistake 4: only the last sample of a category counted."""
    assert agent_reward({"x": 2.0, "y": 3.0}, {"x": 1.0, "y": -1.0}) == pytest.approx(-0.5)
    assert agent_reward({"x": 2.0, "y": 3.0}, {"x": 1.0}) == pytest.approx(2.0)
    assert agent_reward({"x": 2.0}, {}) == 0.0


def test_equation_8_by_hand_keeps_the_sum() -> None:
    theta = collaborative_weights({"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 3, "b": 0, "c": 0}, 0.1)
    assert theta == pytest.approx({"a": 0.7, "b": 0.2, "c": 0.1})


def test_one_round_by_hand() -> None:
    state = ConsoleState(3, {"q": {"lo": 1.0, "hi": 1.0}, "d": {"x": 1.0}}, {"q": 0.5, "d": 0.5})
    rewards = {"q": {"lo": reward(-1.0), "hi": reward(2.0)}, "d": {"x": reward(0.5)}}
    result = update(state, feedback(rewards), CONFIG)
    assert result.refused == ""
    assert result.state.round == 4
    assert result.state.weights["q"] == pytest.approx({"lo": 0.8, "hi": 1.1})
    assert result.state.weights["d"] == pytest.approx({"x": 0.95})
    quality = (0.8 * -1.0 + 1.1 * 2.0) / 2
    domain = 0.95 * 0.5
    mean = (quality + domain) / 2
    assert result.state.theta["q"] == pytest.approx(0.5 + 0.1 * (quality - mean))
    assert result.state.theta["d"] == pytest.approx(0.5 + 0.1 * (domain - mean))


def test_the_order_of_categories_does_not_matter() -> None:
    """Mistake 3: the moving average ran per sample, so the order of samples mattered."""
    state = initial_state({"q": ["a", "b", "c"]})
    values = {"a": reward(0.3), "b": reward(-0.2), "c": reward(0.1)}
    backwards = dict(reversed(values.items()))
    one = update(state, feedback({"q": values}), CONFIG).state
    two = update(state, feedback({"q": backwards}), CONFIG).state
    assert one.weights == two.weights
    assert one.theta == pytest.approx(two.theta)


def test_theta_follows_the_agent_whose_rewards_they_are() -> None:
    """Mistake 5: θ was indexed by position, so a reward on every topic left it unchanged."""
    state = initial_state({"quality": ["q"], "domain": ["d"], "topic": ["t1", "t2"]})
    rewards = {
        "topic": {"t1": reward(1.0), "t2": reward(1.0)},
        "quality": {"q": reward(0.0)},
        "domain": {"d": reward(0.0)},
    }
    theta = update(state, feedback(rewards), CONFIG).state.theta
    assert theta["topic"] > 1 / 3 > theta["quality"] == pytest.approx(theta["domain"])
