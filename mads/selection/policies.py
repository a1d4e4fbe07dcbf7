"""Policies: what turns scores into a selection. A new one is a function and a line below.

Suffix L: one value per level, a part of a cell whose documents share one score and one use
(``mads/selection/plan.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mads.config import SelectionConfig
from mads.types import Floats, Ints

Share = Callable[[Floats, Ints, Floats, float, SelectionConfig], Floats]
"""(scores, uses, sizes, budget below the sum of sizes, config) -> share of each level, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How a budget is shared by levels.

    ``in_order``: levels come one after the other, so that those above the cut are taken whole;
    without it a share is a chance, and whole documents follow from sums of shares only.
    """

    share: Share
    uses_scores: bool
    in_order: bool


def top_levels(score_L: Floats, uses_L: Ints, size_L: Floats, budget: float) -> Floats:
    """Return the share of each level that the budget reaches, from the top.

    Order: score ↓, then uses ↑. Levels that tie in both share what is left in proportion to
    their sizes.
    """
    share_L = np.zeros(len(score_L))
    order = np.lexsort((uses_L, -score_L))
    same = (np.diff(score_L[order]) == 0) & (np.diff(uses_L[order]) == 0)
    group = np.concatenate(([0], np.cumsum(~same)))
    sizes = np.bincount(group, size_L[order])
    before = np.cumsum(sizes) - sizes
    filled = np.clip(budget - before, 0, sizes)
    share_G = np.divide(filled, sizes, out=np.zeros_like(sizes), where=sizes > 0)
    share_L[order] = share_G[group]
    return share_L


def exponential_clocks(
    score_L: Floats, size_L: Floats, budget: float, temperature: float
) -> Floats:
    """Return the share of each level that a Gumbel top-k of the budget takes.

    Adding Gumbel noise to S/τ and keeping the top is letting an exponential clock of rate e^{S/τ}
    ring for each document and keeping the first (Efraimidis and Spirakis 2006): a document rings
    before κ with probability 1 − exp(−κ e^{S/τ}). κ is solved for the budget by bisection.
    """
    rate_L = score_L / temperature
    low, high = -float(rate_L.max()) - 60.0, -float(rate_L.min()) + 60.0

    def shares(log_time: float) -> Floats:
        return -np.expm1(-np.exp(np.minimum(log_time + rate_L, 700.0)))

    while low < (middle := (low + high) / 2) < high:  # until no number lies between them
        if float(shares(middle) @ size_L) < budget:
            low = middle
        else:
            high = middle
    share_L = shares(high)
    # What is left of the bisection's error is spread, so that quotas add up to the budget.
    scale = budget / float(share_L @ size_L)
    return np.clip(share_L * scale, 0.0, 1.0)


def _sample(
    score_L: Floats, uses_L: Ints, size_L: Floats, budget: float, config: SelectionConfig
) -> Floats:
    del uses_L  # they are in the scores already
    return exponential_clocks(score_L, size_L, budget, config.temperature)


def _top(
    score_L: Floats, uses_L: Ints, size_L: Floats, budget: float, config: SelectionConfig
) -> Floats:
    del config
    return top_levels(score_L, uses_L, size_L, budget)


POLICIES: dict[str, Policy] = {
    "sample": Policy(_sample, uses_scores=True, in_order=False),
    "top": Policy(_top, uses_scores=True, in_order=True),
    # All scores are equal, so what was used least comes first, each level in proportion.
    "random": Policy(_top, uses_scores=False, in_order=True),
}
