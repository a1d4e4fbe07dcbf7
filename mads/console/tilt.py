"""Tilted mixtures: a log-factor for every category turns the corpus's mixture into another.

    share of what is read ∝ share of the corpus · exp(Σ_A u[A, category])

This is what equation 6 makes of weights under the policy ``sample``, so every such mixture is a
set of weights and the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mads.types import Cells, Floats


def members(cells: Cells) -> Floats:
    """Return which of P categories (of all agents, one after the other) each cell has, (C, P)."""
    columns = [
        cells.category_CA[:, a] == j
        for a, agent in enumerate(cells.agents)
        for j in range(len(cells.categories[agent]))
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def tilted(share_N: Floats, log_factor_N: Floats) -> Floats:
    """Return ``share · e^u`` at sum 1."""
    tilted_N: Floats = share_N * np.exp(log_factor_N - log_factor_N.max())
    return tilted_N / float(tilted_N.sum())


def divergence(new_N: Floats, old_N: Floats) -> float:
    """Return KL(new ‖ old) in nats; ``old`` is positive where ``new`` is."""
    here = new_N > 0
    return float(np.sum(new_N[here] * np.log(new_N[here] / old_N[here])))


def largest_step(share_N: Floats, old_N: Floats, goal_N: Floats, max_kl: float) -> float:
    """Return the largest step s in [0, 1] with KL(tilt by old + s (goal − old) ‖ old) ≤ max_kl.

    The divergence grows with s, so it is found by bisection.
    """
    before_N = tilted(share_N, old_N)

    def moved(step: float) -> float:
        return divergence(tilted(share_N, old_N + step * (goal_N - old_N)), before_N)

    if moved(1.0) <= max_kl:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if moved(middle) <= max_kl else (low, middle)
    return low


def as_weights(
    cells: Cells, log_factor_P: Floats, temperature: float
) -> dict[str, Mapping[str, float]]:
    """Return the weights whose score, with θ alike, is one plus the temperature times the tilt."""
    count, values = len(cells.agents), iter(log_factor_P.tolist())
    return {
        agent: {c: weight_of(next(values), temperature, count) for c in cells.categories[agent]}
        for agent in cells.agents
    }


def weight_of(log_factor: float, temperature: float, num_agents: int) -> float:
    """Return the weight that a log-factor stands for where θ is 1 / number of agents."""
    return 1.0 + temperature * num_agents * log_factor
