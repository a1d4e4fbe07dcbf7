"""The Bayesian rule: its equations by hand, and the worlds in which only it is right."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from console.toy import documents, feedback, reward

from mads.config import ConsoleConfig
from mads.console import initial_state, update
from mads.console.bayes import (
    GAIN,
    LEAST_SCALE,
    BayesConfig,
    Belief,
    Posterior,
    drifted,
    effect_scale,
    regressed,
    standardised,
)
from mads.console.stable import StableConfig
from mads.types import CategoryRewards, ConsoleState, Feedback

CONFIG = BayesConfig(rule="bayes")
TWO = {"quality": ("low", "high"), "domain": ("web", "code")}


def test_standardising_draws_outliers_in() -> None:
    assert standardised(np.array([1.0, 3.0])) == pytest.approx([-1.0, 1.0])
    wild = standardised(np.append(np.linspace(-1, 1, 99), 1e9))
    assert wild.max() < 3.0
    assert wild[:99].std() > 0.8  # the outlier does not set the scale
    assert standardised(np.array([0.0] * 9 + [1.0])).max() == pytest.approx(3.0)
    assert standardised(np.ones(4)).tolist() == [0.0] * 4


def test_drift_by_hand() -> None:
    belief = Posterior(np.array([2.0, 0.0]), np.array([[1.0, 0.5], [0.5, 1.0]]))
    found = drifted(belief, np.array([2.0, 3.0]), keep=0.5)
    assert found.mean_P.tolist() == [1.0, 0.0]
    assert found.covariance_PP.tolist() == [[0.25 + 3.0, 0.125], [0.125, 0.25 + 6.75]]


def test_forgetting_ends_at_the_prior() -> None:
    belief = Posterior(np.array([2.0]), np.array([[0.01]]))
    for _ in range(60):
        belief = drifted(belief, np.array([0.3]), keep=0.5)
    assert belief.mean_P[0] == pytest.approx(0.0, abs=1e-9)
    assert belief.covariance_PP[0, 0] == pytest.approx(0.09)


def test_regression_by_hand() -> None:
    """One effect seen by two documents: precision 1/4 + 2/0.5, mean by precisions."""
    prior = Posterior(np.array([1.0]), np.array([[4.0]]))
    found = regressed(prior, np.ones((2, 1)), np.array([2.0, 4.0]), noise=0.5)
    assert found.covariance_PP[0, 0] == pytest.approx(1 / 4.25)
    assert found.mean_P[0] == pytest.approx((1 / 4 * 1 + 2 * 2 + 2 * 4) / 4.25)


def test_rounds_add_up_as_if_they_were_one() -> None:
    """A filter without drift gives what one regression on all rounds gives."""
    rng = np.random.default_rng(0)
    design, value = rng.normal(size=(40, 5)), rng.normal(size=40)
    prior = Posterior(np.zeros(5), np.eye(5))
    once = regressed(prior, design, value, noise=0.3)
    twice = regressed(regressed(prior, design[:13], value[:13], 0.3), design[13:], value[13:], 0.3)
    assert twice.mean_P == pytest.approx(once.mean_P)
    assert twice.covariance_PP == pytest.approx(once.covariance_PP)


def test_effect_scale_by_hand() -> None:
    mean, variance = np.array([0.6, -0.2]), np.array([0.01, 0.03])
    expected = math.sqrt((0.36 + 0.04) / ((1 - 0.01 / 0.09) + (1 - 0.03 / 0.09)))
    assert effect_scale(mean, variance, 0.3) == pytest.approx(expected)
    assert effect_scale(np.zeros(2), variance, 0.3) == LEAST_SCALE
    assert effect_scale(mean, np.full(2, 0.09), 0.3) == 0.3  # nothing is determined


def world(seed: int, signal: float, noise: float, count: int = 600) -> Feedback:
    """Code is harmful, and mostly of low quality; quality itself says nothing."""
    rng = np.random.default_rng(seed)
    domain = rng.integers(0, 2, count)
    low = rng.random(count) < np.where(domain == 1, 0.9, 0.1)
    values = 5.0 - signal * domain + rng.normal(0, noise, count)
    rewards: CategoryRewards = {
        "quality": {
            name: reward(float(values[low == flag].mean()), 0.05, float((low == flag).mean()))
            for name, flag in (("low", True), ("high", False))
        },
        "domain": {
            name: reward(float(values[domain == i].mean()), 0.05, float((domain == i).mean()))
            for i, name in enumerate(("web", "code"))
        },
    }
    rows = np.stack([np.where(low, 0, 1), domain], axis=1).tolist()
    return documents(TWO, rows, values.tolist(), rewards)


def played(config: ConsoleConfig, signal: float, noise: float, rounds: int = 4) -> ConsoleState:
    state = initial_state(TWO)
    for seed in range(rounds):
        state = update(state, world(seed, signal, noise), config).state
    return state


def test_what_marginal_means_confuse_is_separated() -> None:
    """Low quality looks harmful only because code is; `stable` believes it, `bayes` does not."""
    state = played(CONFIG, signal=1.0, noise=1.0)
    assert state.weights["domain"]["web"] - state.weights["domain"]["code"] > 0.8
    gap = state.theta["quality"] * (
        state.weights["quality"]["high"] - state.weights["quality"]["low"]
    )
    true = state.theta["domain"] * (
        state.weights["domain"]["web"] - state.weights["domain"]["code"]
    )
    assert abs(gap) < 0.15 * true
    assert state.theta["domain"] > 0.8
    fooled = played(StableConfig(rule="stable"), signal=1.0, noise=1.0)
    assert fooled.weights["quality"]["high"] > 1.3 * fooled.weights["quality"]["low"]
    assert fooled.theta["quality"] > 0.3


def test_the_score_is_one_plus_the_fitted_effects() -> None:
    """Equation 6 holds: Σ θ w = 1 + GAIN · Σ effects, unless a guard rail acts."""
    state = played(replace(CONFIG, weight_limit=1e9, min_entropy=0.0, theta_floor=0.0), 0.5, 1.0)
    assert isinstance(state.memory, Belief)
    for quality in ("low", "high"):
        for domain in ("web", "code"):
            score = (
                state.theta["quality"] * state.weights["quality"][quality]
                + state.theta["domain"] * state.weights["domain"][domain]
            )
            effects = (
                state.memory.mean[f"quality/{quality}"] + state.memory.mean[f"domain/{domain}"]
            )
            assert score == pytest.approx(1 + GAIN * effects)


def test_rounds_of_noise_change_almost_nothing() -> None:
    state = played(CONFIG, signal=0.0, noise=1.0, rounds=6)
    weights = [w for table in state.weights.values() for w in table.values()]
    assert max(weights) - min(weights) < 0.25
    assert state.theta == pytest.approx({"quality": 0.5, "domain": 0.5}, abs=0.15)


def test_the_unit_of_rewards_does_not_matter() -> None:
    one = update(initial_state(TWO), world(0, 1.0, 1.0), CONFIG).state
    small = world(0, 1.0, 1.0)
    reward_N = small.documents.reward_N * 1e-6
    small = replace(small, documents=replace(small.documents, reward_N=reward_N))
    two = update(initial_state(TWO), small, CONFIG).state
    assert two.weights["domain"] == pytest.approx(one.weights["domain"])
    assert two.theta == pytest.approx(one.theta)


def test_a_change_of_sign_is_followed() -> None:
    state = played(CONFIG, signal=1.0, noise=1.0)
    assert state.weights["domain"]["web"] > state.weights["domain"]["code"]
    for seed in range(10, 16):
        state = update(state, world(seed, -1.0, 1.0), CONFIG).state
    assert state.weights["domain"]["code"] > state.weights["domain"]["web"]


def test_uncertainty_is_explored_when_asked_for() -> None:
    state = initial_state({"domain": ["common", "rare"]})
    rows = [[0]] * 200 + [[1]] * 4
    values = np.random.default_rng(1).normal(0, 1, 204).tolist()
    rewards = {"domain": {"common": reward(0.0, 0.05, 0.98), "rare": reward(0.0, 0.5, 0.02)}}
    found = documents({"domain": ("common", "rare")}, rows, values, rewards)

    def gap(explore: float) -> float:
        weights = update(state, found, replace(CONFIG, explore=explore)).state.weights["domain"]
        return weights["rare"] - weights["common"]

    assert gap(2.0) > gap(0.0) > gap(-2.0)


def test_prior_weights_are_where_it_starts() -> None:
    prior = {"domain": {"code": 2.0}}
    state = initial_state(TWO, prior)
    silent = {"quality": {"low": reward(0.0), "high": reward(0.0)}, "domain": {"web": reward(0.0)}}
    free = replace(CONFIG, theta_floor=0.0)
    end = update(state, feedback(silent), free).state
    assert isinstance(end.memory, Belief)
    assert end.memory.mean["domain/code"] == pytest.approx((2.0 - 1.0) * 0.5 / GAIN)
    assert end.weights["domain"]["code"] > 1.2 > end.weights["domain"]["web"]
