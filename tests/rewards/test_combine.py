"""Several directions' rewards as one: by hand, and the order that each way puts documents in."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mads.rewards.combine import combined

REWARDS = np.array([[1.0, -1.0, 1.0, -1.0], [100.0, 100.0, -100.0, -100.0]])


def test_the_mean_is_that_of_one_step_along_all() -> None:
    found = combined(REWARDS, np.array([0.5, 0.25]), "mean")
    assert found.tolist() == [25.5, 24.5, -24.5, -25.5]


def test_standardised_no_direction_drowns_another() -> None:
    found = combined(REWARDS, np.array([1.0, 1.0]), "standardised")
    assert found.tolist() == [1.0, 0.0, 0.0, -1.0]
    assert combined(REWARDS, np.array([3.0, 1.0]), "standardised").tolist() == [1.0, -0.5, 0.5, -1]


def test_the_soft_minimum_wants_all_tasks_to_gain() -> None:
    rewards = np.array([[2.0, 0.0, 1.0], [0.0, 2.0, 1.0]])
    rewards = rewards / rewards.std(axis=1, keepdims=True)
    found = combined(rewards, np.array([1.0, 1.0]), "soft_minimum")
    high, middle = rewards[0, 0], rewards[0, 2]
    assert found[0] == found[1] == pytest.approx(-math.log((math.exp(-high) + 1) / 2))
    assert found[2] == pytest.approx(middle)
    assert found[2] > found[0]


@pytest.mark.parametrize("how", ["mean", "standardised", "soft_minimum"])
def test_a_direction_without_spread_or_with_large_numbers_stays_finite(how: str) -> None:
    rewards = np.array([[5.0, 5.0, 5.0], [-1e6, 0.0, 1e6]])
    found = combined(rewards, np.array([1.0, 1.0]), how)
    assert np.isfinite(found).all()
    assert found[0] < found[1] < found[2] or how == "soft_minimum"
    assert combined(rewards[:1], np.array([1.0]), how).tolist() == [5.0, 5.0, 5.0]


@pytest.mark.parametrize("how", ["standardised", "soft_minimum"])
def test_the_unit_of_a_direction_does_not_matter(how: str) -> None:
    scaled = REWARDS * np.array([[1e-9], [1e9]])
    weight_D = np.array([2.0, 1.0])
    assert combined(scaled, weight_D, how) == pytest.approx(combined(REWARDS, weight_D, how))
