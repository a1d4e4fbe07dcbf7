"""Guard rails of the console's weights. Each returns what it changed, so that it can be counted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from mads.codec import Within
from mads.config import ConsoleConfig
from mads.types import CategoryRewards, ConsoleState

Weights = Mapping[str, float]

TINY = 1e-300  # what cannot be divided by


@dataclass(frozen=True, slots=True)
class GuardedConfig(ConsoleConfig):
    """What the rules with guard rails share; each rail that acts is reported."""

    theta_floor: Annotated[float, Within(0, 1)] = 0.05  # the least collaborative weight
    # w stays within 1/4.5 and 4.5 times its agent's mean
    weight_limit: Annotated[float, Within(1, 1e12)] = 4.5
    # Of an agent's categories by share·w, relative to the corpus
    min_entropy: Annotated[float, Within(0, 1)] = 0.3


def floored_simplex(theta: Weights, floor: float) -> tuple[dict[str, float], int]:
    """Return θ ≥ 0 scaled to sum 1 with none below the floor, and how many stand on it.

    A floor above 1 / number of agents means equal weights.
    """
    largest = max(theta.values())
    if largest < TINY or floor * len(theta) >= 1:
        return dict.fromkeys(theta, 1.0 / len(theta)), len(theta)
    theta = {agent: value / largest for agent, value in theta.items()}
    low: set[str] = set()
    while True:
        rest = sum(value for agent, value in theta.items() if agent not in low)
        scale = (1.0 - floor * len(low)) / rest if rest > 0 else 0.0
        below = {a for a, value in theta.items() if a not in low and value * scale < floor}
        if not below:
            break
        low |= below
    return {a: floor if a in low else value * scale for a, value in theta.items()}, len(low)


def limited(weights: Weights, limit: float) -> tuple[dict[str, float], int]:
    """Return weights within 1 / limit to limit times their mean, and how many were moved."""
    mean = sum(weights.values()) / len(weights)
    if not mean > 0:
        return dict.fromkeys(weights, 1.0), len(weights)
    found = {name: max(mean / limit, min(mean * limit, w)) for name, w in weights.items()}
    return found, sum(found[name] != weights[name] for name in weights)


def relative_entropy(weights: Weights, share: Weights) -> float:
    """Return H(share · w) / H(share): 1 = as spread out as the corpus, 0 = one category only."""

    def entropy(parts: list[float]) -> float:
        total = sum(parts)
        return -sum(p / total * math.log(p / total) for p in parts if p > 0)

    whole = entropy([share[name] for name in weights if share.get(name, 0) > 0])
    if not whole > 0:
        return 1.0
    return (
        entropy([share[name] * w for name, w in weights.items() if share.get(name, 0) > 0]) / whole
    )


def spread_out(weights: Weights, share: Weights, least: float) -> tuple[dict[str, float], int]:
    """Return weights tempered, w ← w^γ, until their relative entropy is at least ``least``."""
    if relative_entropy(weights, share) >= least:
        return dict(weights), 0
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        tempered = {name: w**middle for name, w in weights.items()}
        if relative_entropy(tempered, share) >= least:
            low = middle
        else:
            high = middle
    return {name: w**low for name, w in weights.items()}, 1


def guarded(
    state: ConsoleState, rewards: CategoryRewards, limit: float, entropy: float, floor: float
) -> tuple[ConsoleState, dict[str, int]]:
    """Return the state within its guard rails, and how often each of them acted."""
    theta, on_floor = floored_simplex(state.theta, floor)
    counts = {"theta_floor": on_floor, "weight_limit": 0, "entropy": 0}
    weights = {}
    for agent, table in state.weights.items():
        inside, moved = limited(table, limit)
        share = {name: reward.share for name, reward in rewards.get(agent, {}).items()}
        weights[agent], tempered = spread_out(inside, share, entropy)
        counts["weight_limit"] += moved
        counts["entropy"] += tempered
    acted = {name: count for name, count in counts.items() if count}
    return replace(state, weights=weights, theta=theta), acted
