"""Two halves of the probes: agreement by hand, planted effects, and rewards without meaning."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mads.rewards.competence import LIMIT, agreement, effects
from mads.seeds import shuffled
from mads.types import DocumentRewards

CATEGORIES = {"kind": ("good", "bad"), "coin": ("heads", "tails")}


def documents(reward: np.ndarray, *columns: np.ndarray) -> DocumentRewards:
    agents = tuple(CATEGORIES)[: len(columns)]
    names = {agent: CATEGORIES[agent] for agent in agents}
    labels = np.stack(columns, axis=1).astype(np.uint16)
    ones = np.ones(len(reward))
    return DocumentRewards(agents, names, labels, np.asarray(reward, np.float64), ones, ones)


def test_effects_by_hand() -> None:
    # means 2.5 and 0.5 around 1.5, deviation 1.118 of all, two documents each: 1 / (1.118 / √2)
    value = np.array([2.0, 3.0, 0.0, 1.0])
    category = np.array([0, 0, 1, 1], np.uint16)
    found = effects(value, np.ones(4), category, np.array([0, 1], np.uint16))
    assert found == pytest.approx(np.array([1.2649, -1.2649]), abs=1e-4)
    # weights 3 : 1 within the first: mean 2.25, error of √10 / 4 deviations
    weighted = effects(value, np.array([3.0, 1.0, 2.0, 2.0]), category, np.array([0], np.uint16))
    mean = (3 * 2 + 3 + 0 + 2) / 8
    assert weighted == pytest.approx((2.25 - mean) / (np.std(value) * math.sqrt(10) / 4))


def test_agreement_is_the_product_of_the_halves_effects() -> None:
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 40)
    reward = rng.normal(size=40) - kind
    order = shuffled(np.arange(40, dtype=np.uint64), 7)
    halves = [order[::2], order[1::2]]
    ranked = np.array([np.mean(reward <= r) - 0.5 / 40 for r in reward])
    wanted = np.array([0, 1], np.uint16)
    one, two = (effects(ranked[h], np.ones(20), kind[h].astype(np.uint16), wanted) for h in halves)
    assert agreement(documents(reward, kind), 7) == pytest.approx(one @ two / math.sqrt(2))


def test_what_helps_is_told_from_noise() -> None:
    """Planted effects of half a standard deviation pass; rewards dealt out at random seldom do."""
    passed = {"planted": 0, "dealt": 0}
    values = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        kind, coin = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
        reward = rng.standard_t(3, size=200) - kind
        passed["planted"] += agreement(documents(reward, kind, coin), seed) >= LIMIT
        dealt = agreement(documents(rng.permutation(reward), kind, coin), seed)
        passed["dealt"] += dealt >= LIMIT
        values.append(dealt)
    assert passed["planted"] > 0.9 * 400
    assert passed["dealt"] < 0.08 * 400
    assert np.mean(values) == pytest.approx(0, abs=0.15)


def test_agents_that_know_the_same_are_not_more_certain_together() -> None:
    beyond = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        kind = rng.integers(0, 2, 60)
        beyond += agreement(documents(rng.normal(size=60), kind, kind), seed) >= LIMIT
    assert beyond < 0.08 * 400


def test_nothing_to_compare() -> None:
    assert agreement(documents(np.arange(8.0), np.zeros(8)), 0) == 0  # a single category
    assert agreement(documents(np.ones(8), np.arange(8) % 2), 0) == 0
    assert agreement(documents(np.arange(3.0), np.arange(3) % 2), 0) == 0
    assert math.isnan(agreement(documents(np.array([1, 2, np.nan, 3]), np.arange(4) % 2), 0))
