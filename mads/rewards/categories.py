"""Which documents to probe, and what their rewards say of each category.

One sample serves all agents: every document counts for its category of each agent. Cells are
sampled so that every category gets its number of documents, and each document carries the inverse
of its cell's sampling rate as a weight, so that every category mean estimates the mean over all
documents of that category (Horvitz and Thompson 1952, Hájek 1971).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mads.seeds import derive, shuffled, uniform
from mads.types import CategoryReward, CategoryRewards, Cells, Floats, Ints

MIN_PROBES = 8.0


@dataclass(frozen=True, slots=True)
class Probes:
    """Documents to probe: their cells, their rows in the order, and 1 / sampling rate."""

    cell_N: Ints
    row_N: Ints
    weight_N: Floats


Spread = Mapping[str, Mapping[str, float]]
"""Agent -> category -> standard deviation of its documents' rewards."""

Wanted = Mapping[str, Floats]
"""Agent -> number of documents wanted of each of its categories."""


def equal_sizes(cells: Cells, per_category: int) -> Wanted:
    """Want the same number of documents of every category (the paper)."""
    return {
        agent: np.full(len(names), float(per_category)) for agent, names in cells.categories.items()
    }


def adapted_sizes(cells: Cells, spread: Spread, tokens: int, context: int) -> Wanted:
    """Want as many documents as make all standard errors equal within a budget of tokens.

    The error of a mean is its documents' standard deviation (``spread``) divided by the root of
    their number, so numbers go with the variance. A category of unknown spread counts as the mean
    variance; each gets at least MIN_PROBES documents if it has them.
    """
    known = [s * s for found in spread.values() for s in found.values()]
    mean = sum(known) / len(known) if sum(known) > 0 else 1.0
    share = {
        agent: np.array([spread.get(agent, {}).get(name, math.sqrt(mean)) ** 2 for name in names])
        / mean
        for agent, names in cells.categories.items()
    }

    def wanted(scale: float) -> Wanted:
        return {agent: np.maximum(scale * s, MIN_PROBES) for agent, s in share.items()}

    least = min(float(s[s > 0].min(initial=1.0)) for s in share.values())
    low, high = 0.0, float(cells.num_docs_C.sum()) / least  # here every document is wanted
    for _ in range(60):
        middle = (low + high) / 2
        if probe_tokens(cells, wanted(middle), context) <= tokens:
            low = middle
        else:
            high = middle
    return wanted(low)


def probe_tokens(cells: Cells, wanted: Wanted, context: int) -> float:
    """Return the tokens that probes read in expectation, at most one window of each document."""
    mean_C = cells.num_tokens_C / np.maximum(cells.num_docs_C, 1)
    return float(sampling_counts(cells, wanted) @ np.minimum(mean_C, context))


def spread_of(rewards: CategoryRewards) -> Spread:
    """Return the standard deviation of rewards within each category, from its standard error."""
    return {
        agent: {
            name: reward.stderr * math.sqrt(reward.num_docs)
            for name, reward in found.items()
            if math.isfinite(reward.stderr)
        }
        for agent, found in rewards.items()
    }


def sampling_counts(cells: Cells, wanted: Wanted) -> Floats:
    """Return the expected number of probes of each cell.

    A cell is sampled at the highest rate that one of its categories asks for, so each category
    gets at least min(wanted, its documents) probes in expectation.
    """
    rate_C = np.zeros(len(cells))
    for column, agent in enumerate(cells.agents):
        category_C = cells.category_CA[:, column]
        docs_J = cells.by_category(agent, cells.num_docs_C)
        rate_J = np.minimum(1.0, wanted[agent] / np.maximum(docs_J, 1.0))
        rate_C = np.maximum(rate_C, rate_J[category_C])
    counts: Floats = rate_C * cells.num_docs_C
    return counts


def choose_probes(cells: Cells, wanted: Wanted, seed: int) -> Probes:
    """Draw the probes of one round.

    Expected counts are rounded by systematic sampling over the cells in a seeded order. Within a
    cell the documents are a run of its shuffled order from a seeded place on, which is a uniform
    sample without replacement.
    """
    number_C = np.arange(len(cells), dtype=np.uint64)
    expected_C = sampling_counts(cells, wanted)
    order = shuffled(number_C, derive(seed, "probe cells"))
    start = float(uniform(np.zeros(1, np.uint64), derive(seed, "probe start"))[0])
    ends = np.floor(np.cumsum(expected_C[order]) + start).astype(np.int64)
    count_C = np.zeros(len(cells), np.int64)
    count_C[order] = np.diff(np.concatenate(([0], ends)))
    count_C = np.minimum(count_C, cells.num_docs_C)
    first_C = uniform(number_C, derive(seed, "probe rows")) * cells.num_docs_C
    cell_N = np.repeat(np.arange(len(cells)), count_C)
    place_N = np.arange(len(cell_N)) - np.repeat(np.cumsum(count_C) - count_C, count_C)
    inside_N = (first_C.astype(np.int64)[cell_N] + place_N) % cells.num_docs_C[cell_N]
    return Probes(
        cell_N,
        cells.first_row_C[cell_N] + inside_N,
        cells.num_docs_C[cell_N] / expected_C[cell_N],
    )


def category_rewards(
    cells: Cells, cell_N: Ints, weight_N: Floats, reward_N: Floats
) -> dict[str, dict[str, CategoryReward]]:
    """Equation 4: each category's mean reward, with its standard error and share of the corpus.

    A category with fewer than two probes is absent: its error is not known.
    """
    total_docs = int(cells.num_docs_C.sum())
    result: dict[str, dict[str, CategoryReward]] = {}
    for column, agent in enumerate(cells.agents):
        category_C = cells.category_CA[:, column]
        docs_J = cells.by_category(agent, cells.num_docs_C)
        result[agent] = {}
        for index, name in enumerate(cells.categories[agent]):
            here = category_C[cell_N] == index
            count = int(here.sum())
            if count < 2:
                continue
            weight, reward = weight_N[here], reward_N[here]
            mean = float(weight @ reward / weight.sum())
            spread = float(np.square(weight * (reward - mean)).sum())
            stderr = (spread * count / (count - 1)) ** 0.5 / float(weight.sum())
            share = float(docs_J[index]) / total_docs
            result[agent][name] = CategoryReward(mean, stderr, count, share)
    return result
