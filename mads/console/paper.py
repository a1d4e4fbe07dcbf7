"""The update of arXiv 2410.08102, literally; positive rewards lower the reference loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from mads.codec import Within
from mads.config import ConsoleConfig
from mads.types import ConsoleState, Feedback


@dataclass(frozen=True, slots=True)
class PaperConfig(ConsoleConfig):
    """``paper``: the published update, without guard rails."""

    weight_rate: Annotated[float, Within(0, 1)] = 0.6  # η of the category weights
    theta_rate: Annotated[float, Within(0, 100)] = 0.3  # η of the collaborative weights


def category_weight(weight: float, reward: float, rate: float) -> float:
    """Equation 5: ``w ← (1 − η) w + η R``, one step on the category's mean reward."""
    return (1.0 - rate) * weight + rate * reward


def agent_reward(weights: Mapping[str, float], rewards: Mapping[str, float]) -> float:
    """Equation 7: ``R_A = (1 / n_A) Σ_j w_j R_j`` over the n_A probed categories; 0 without any."""
    if not rewards:
        return 0.0
    return sum(weights[category] * reward for category, reward in rewards.items()) / len(rewards)


def collaborative_weights(
    theta: Mapping[str, float], agent_rewards: Mapping[str, float], rate: float
) -> dict[str, float]:
    """Equation 8: ``θ_A ← θ_A + η (R_A − R̄)``; the sum of θ is kept."""
    mean = sum(agent_rewards.values()) / len(agent_rewards)
    return {agent: theta[agent] + rate * (agent_rewards[agent] - mean) for agent in theta}


def paper_update(state: ConsoleState, feedback: Feedback, config: PaperConfig) -> ConsoleState:
    """Equations 5, 7 and 8 in the order of the paper's algorithm 2: first w, then θ."""
    rewards = feedback.categories
    weights = {agent: dict(values) for agent, values in state.weights.items()}
    for agent, found in rewards.items():
        for category, reward in found.items():
            old = weights[agent][category]
            weights[agent][category] = category_weight(old, reward.mean, config.weight_rate)
    agent_rewards = {
        agent: agent_reward(
            weights[agent], {c: reward.mean for c, reward in rewards.get(agent, {}).items()}
        )
        for agent in weights
    }
    theta = collaborative_weights(state.theta, agent_rewards, config.theta_rate)
    return replace(state, weights=weights, theta=theta)
