"""An update that noise cannot move: standardised rewards, shrunk by their reliability.

Every agent's categories partition the corpus, so a category's effect is its reward minus the
share-weighted mean of its agent. Effects of all categories of all agents are put on one scale,
and each is trusted as far as the spread of effects exceeds their standard errors (the moment
estimator of DerSimonian and Laird 1986 for random effects).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from mads.codec import Within
from mads.console.guards import GuardedConfig
from mads.types import CategoryReward, CategoryRewards, ConsoleState, Feedback

LOG_WEIGHT_SCALE = 0.5  # log w of an effect of one standard deviation

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class StableConfig(GuardedConfig):
    """``stable``: moving averages of standardised category rewards."""

    weight_rate: Annotated[float, Within(0, 1)] = 0.6  # η of the category weights
    theta_rate: Annotated[float, Within(0, 100)] = 0.3  # η of the collaborative weights


def effects(rewards: CategoryRewards) -> dict[Key, float]:
    """Return each category's reward minus the share-weighted mean of its agent's categories."""
    result: dict[Key, float] = {}
    for agent, found in rewards.items():
        total = sum(reward.share for reward in found.values())
        if total <= 0:
            continue
        centre = sum(reward.share * reward.mean for reward in found.values()) / total
        result |= {(agent, name): reward.mean - centre for name, reward in found.items()}
    return result


def signal_variance(effect: Mapping[Key, float], stderr: Mapping[Key, float]) -> float:
    """Return the variance of effects beyond their standard errors: mean of d² − s², at least 0.

    Precise categories count more: the weight is 1 / (s² + mean s²).
    """
    mean = sum(s * s for s in stderr.values()) / len(stderr)
    trust = {key: 1.0 / (s * s + mean) if mean > 0 else 1.0 for key, s in stderr.items()}
    excess = sum(trust[key] * (effect[key] ** 2 - stderr[key] ** 2) for key in effect)
    return max(0.0, excess / sum(trust.values()))


def reliability(variance: float, stderr: float) -> float:
    """Return the share of an effect that is signal: τ² / (τ² + s²), in [0, 1]."""
    total = variance + stderr * stderr
    return variance / total if total > 0 else 0.0


def log_weight(old: float, goal: float, trust: float, rate: float) -> float:
    """Return log w after one moving-average step of size η·trust towards its goal."""
    return old + rate * trust * (goal - old)


def agent_gain(
    weights: Mapping[str, float], rewards: Mapping[str, CategoryReward], effect: Mapping[str, float]
) -> float:
    """Return what an agent's weights gain: Σ_j p_j (w_j − w̄) d_j, the covariance of w and d."""
    total = sum(reward.share for reward in rewards.values())
    if total <= 0:
        return 0.0
    mean = sum(reward.share * weights[name] for name, reward in rewards.items()) / total
    return (
        sum(
            reward.share * (weights[name] - mean) * effect[name] for name, reward in rewards.items()
        )
        / total
    )


def exponentiated_gradient(
    theta: Mapping[str, float], gains: Mapping[str, float], rate: float
) -> dict[str, float]:
    """Return θ_A ∝ θ_A exp(η (g_A − ḡ)), of sum 1. Source: Kivinen and Warmuth 1997."""
    mean = sum(gains.values()) / len(gains)
    raw = {agent: theta[agent] * math.exp(rate * (gains[agent] - mean)) for agent in theta}
    total = sum(raw.values())
    return {agent: value / total for agent, value in raw.items()}


def stable_update(state: ConsoleState, feedback: Feedback, config: StableConfig) -> ConsoleState:
    """Move each log w towards its standardised effect, then θ towards the agents that gain.

    When every effect is below its standard error the signal variance is 0 and nothing moves.
    """
    rewards = feedback.categories
    effect = effects(rewards)
    weights = {agent: dict(values) for agent, values in state.weights.items()}
    if not effect:
        return state
    stderr = {(agent, name): rewards[agent][name].stderr for agent, name in effect}
    variance = signal_variance(effect, stderr)
    scale = math.sqrt(variance) if variance > 0 else 1.0
    shrunk: dict[Key, float] = {}
    for (agent, name), value in effect.items():
        trust = reliability(variance, stderr[agent, name])
        shrunk[agent, name] = trust * value / scale
        old = math.log(max(weights[agent][name], 1e-12))
        goal = LOG_WEIGHT_SCALE * value / scale
        weights[agent][name] = math.exp(log_weight(old, goal, trust, config.weight_rate))
    gains = {
        agent: agent_gain(
            weights[agent],
            {name: r for name, r in rewards.get(agent, {}).items() if (agent, name) in shrunk},
            {name: value for (owner, name), value in shrunk.items() if owner == agent},
        )
        for agent in weights
    }
    theta = exponentiated_gradient(state.theta, gains, config.theta_rate)
    return replace(state, weights=weights, theta=theta)
