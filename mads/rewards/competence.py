"""Is the model competent to say what it should read? It is when it repeats itself.

The probed documents are split into two halves. A category's effect in one half is its mean rank of
rewards minus the half's, in standard errors; without any effect these are standard normal. Effects
that are real have the same sign in both halves, so for each agent with K categories

    agreement_A = Σ_c z₁[c] · z₂[c] / √K

is about standard normal when rewards say nothing, and large when they do. The mean over agents is
compared with LIMIT. Agents that know the same are no more certain together than each alone, so the
mean is never too generous.

    one agent, effects z₁ = (2, −2), z₂ = (1, −1):  (2 + 2) / √2 = 2.8, above 1.64
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mads.rewards.ranks import ranks
from mads.seeds import shuffled
from mads.types import DocumentRewards, Floats

LIMIT = 1.645  # rewards without meaning reach it in one round of twenty


def agreement(documents: DocumentRewards, seed: int) -> float:
    """Return how far two halves of N probed documents agree on the effects of categories.

    0 where no agent has two categories with documents in both halves, not a number where a reward
    is none.
    """
    count = len(documents.reward_N)
    if not np.isfinite(documents.reward_N).all():
        return float("nan")
    if count < 4:
        return 0.0
    half_N = np.empty(count, bool)
    half_N[shuffled(np.arange(count, dtype=np.uint64), seed)] = np.arange(count) % 2 == 0
    value_N = ranks(documents.reward_N)
    if np.ptp(value_N) == 0:
        return 0.0
    found = []
    for column in range(len(documents.agents)):
        category_N = documents.category_NA[:, column]
        shared = np.intersect1d(category_N[half_N], category_N[~half_N])
        if len(shared) < 2:
            continue
        one_K, two_K = (
            effects(value_N[part], documents.weight_N[part], category_N[part], shared)
            for part in (half_N, ~half_N)
        )
        found.append(float(one_K @ two_K) / len(shared) ** 0.5)
    return float(np.mean(found)) if found else 0.0


def effects(
    value_N: Floats, weight_N: Floats, category_N: NDArray[np.uint16], wanted_K: NDArray[np.uint16]
) -> Floats:
    """Return the mean of each wanted category minus that of all, in standard errors."""
    mean = float(weight_N @ value_N / weight_N.sum())
    spread = max(float(np.std(value_N)), 1e-12)
    found = []
    for category in wanted_K:
        weight = weight_N[category_N == category]
        effect = float(weight @ value_N[category_N == category] / weight.sum()) - mean
        found.append(effect / (spread * float(np.sqrt(np.square(weight).sum()) / weight.sum())))
    return np.array(found)
