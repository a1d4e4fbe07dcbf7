"""Tilted mixtures: shares, distances and steps by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mads.console.tilt import divergence, largest_step, tilted


def test_a_tilt_multiplies_shares() -> None:
    assert tilted(np.array([0.5, 0.5]), np.log([3.0, 1.0])).tolist() == pytest.approx([0.75, 0.25])
    assert tilted(np.array([0.8, 0.2]), np.array([0.0, 2000.0])).tolist() == [0.0, 1.0]


def test_the_divergence_in_nats() -> None:
    # 0.75 log (0.75 / 0.5) + 0.25 log (0.25 / 0.5)
    assert divergence(np.array([0.75, 0.25]), np.array([0.5, 0.5])) == pytest.approx(0.13081203594)
    assert divergence(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == pytest.approx(math.log(2))


@given(
    st.lists(st.floats(-5, 5), min_size=2, max_size=6), st.floats(1e-4, 3), st.integers(0, 2**32)
)
def test_the_step_is_the_largest_within_the_trust_region(
    goal: list[float], limit: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    share, old = rng.dirichlet(np.ones(len(goal))), rng.normal(size=len(goal))
    step = largest_step(share, old, np.array(goal), limit)

    def moved(size: float) -> float:
        return divergence(tilted(share, old + size * (np.array(goal) - old)), tilted(share, old))

    assert 0 <= step <= 1
    assert moved(step) <= limit * (1 + 1e-9) + 1e-12
    assert step == 1.0 or moved(step + 1e-6) > limit * (1 - 1e-4) - 1e-12
