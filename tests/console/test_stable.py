"""The stable rule: its parts by hand, and what noise may do to it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from console.toy import feedback

from mads.console import initial_state, update
from mads.console.stable import (
    StableConfig,
    agent_gain,
    effects,
    exponentiated_gradient,
    log_weight,
    reliability,
    signal_variance,
)
from mads.types import CategoryReward

CONFIG = StableConfig(rule="stable")


def reward(mean: float, stderr: float = 0.1, share: float = 0.5) -> CategoryReward:
    return CategoryReward(mean, stderr, num_docs=10, share=share)


def test_effects_by_hand() -> None:
    found = effects({"q": {"lo": reward(1.0, share=0.75), "hi": reward(3.0, share=0.25)}})
    assert found == pytest.approx({("q", "lo"): -0.5, ("q", "hi"): 1.5})


def test_signal_variance_by_hand() -> None:
    effect = {("a", "x"): 2.0, ("a", "y"): -2.0}
    stderr = {("a", "x"): 1.0, ("a", "y"): 1.0}
    assert signal_variance(effect, stderr) == pytest.approx(3.0)
    assert signal_variance({k: v / 4 for k, v in effect.items()}, stderr) == 0.0
    assert signal_variance(effect, dict.fromkeys(effect, 0.0)) == pytest.approx(4.0)


def test_reliability_by_hand() -> None:
    assert reliability(3.0, 1.0) == pytest.approx(0.75)
    assert reliability(0.0, 0.0) == 0.0


def test_log_weight_moves_by_rate_times_trust() -> None:
    assert log_weight(0.2, 1.0, trust=0.5, rate=0.4) == pytest.approx(0.2 + 0.2 * 0.8)


def test_agent_gain_by_hand() -> None:
    rewards = {"lo": reward(0, share=0.5), "hi": reward(0, share=0.5)}
    gain = agent_gain({"lo": 1.0, "hi": 3.0}, rewards, {"lo": -1.0, "hi": 2.0})
    assert gain == pytest.approx(0.5 * -1 * -1 + 0.5 * 1 * 2)


def test_exponentiated_gradient_by_hand() -> None:
    theta = exponentiated_gradient({"a": 0.5, "b": 0.5}, {"a": 1.0, "b": 0.0}, math.log(4))
    assert theta == pytest.approx({"a": 0.8, "b": 0.2})


def test_a_round_of_noise_changes_nothing() -> None:
    state = initial_state({"q": ["a", "b"], "d": ["x", "y"]})
    rewards = {
        "q": {"a": reward(0.05, 0.2), "b": reward(-0.05, 0.2)},
        "d": {"x": reward(0.03, 0.2), "y": reward(-0.03, 0.2)},
    }
    result = update(state, feedback(rewards), CONFIG).state
    assert result.weights == state.weights
    assert result.theta == pytest.approx(dict(state.theta))


def test_the_unit_of_rewards_does_not_matter() -> None:
    """Mistake 1: losses were standardised, and the standardised ones then not used."""
    state = initial_state({"q": ["a", "b"], "d": ["x", "y"]})

    def run(unit: float) -> dict[str, float]:
        rewards = {
            "q": {"a": reward(3 * unit, 0.1 * unit), "b": reward(-2 * unit, 0.1 * unit)},
            "d": {"x": reward(0.5 * unit, 0.1 * unit), "y": reward(0.4 * unit, 0.1 * unit)},
        }
        end = update(state, feedback(rewards), CONFIG).state
        return {**end.weights["q"], **end.weights["d"], **end.theta}

    assert run(1.0) == pytest.approx(run(1e-6))


def test_an_unreliable_category_moves_less() -> None:
    state = initial_state({"q": ["sure", "unsure", "low"]})
    rewards = {
        "q": {
            "sure": reward(1.0, 0.01, share=0.3),
            "unsure": reward(1.0, 3.0, share=0.3),
            "low": reward(-1.5, 0.01, share=0.4),
        }
    }
    weights = update(state, feedback(rewards), CONFIG).state.weights["q"]
    assert weights["sure"] > weights["unsure"] > 1 > weights["low"]


def test_an_agent_with_random_labels_loses_theta() -> None:
    rng = np.random.default_rng(0)
    state = initial_state({"good": ["a", "b"], "random": ["x", "y"]})
    for _ in range(6):
        noise = rng.normal(0, 0.05, 4)
        rewards = {
            "good": {"a": reward(1 + noise[0], 0.05), "b": reward(-1 + noise[1], 0.05)},
            "random": {"x": reward(noise[2], 0.05), "y": reward(noise[3], 0.05)},
        }
        state = update(state, feedback(rewards), CONFIG).state
    assert state.theta["good"] > 0.6
    assert all(w > 0 for table in state.weights.values() for w in table.values())
