"""The shares of variance in scripts/bench_signal.py, where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import signal_variance
from signal_variance import explained, kept, one_hot, ridge

N = 700


def test_a_ridge_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import RidgeCV

    rng = np.random.default_rng(0)
    design = rng.normal(size=(90, 20)) + 3
    value = design @ rng.normal(size=20) + 9 * rng.normal(size=90)
    size = float(np.square(design[:60] - design[:60].mean(axis=0)).sum()) / 60
    theirs = RidgeCV(alphas=signal_variance.PENALTIES * size).fit(design[:60], value[:60])
    found = ridge(design[:60], value[:60], design[60:])
    assert found.tolist() == pytest.approx(theirs.predict(design[60:]).tolist())


def test_planted_shares() -> None:
    """Half of the variance is of seven categories; 400 others at random are not favoured."""
    rng = np.random.default_rng(1)
    category_N, order_N = rng.integers(7, size=N), rng.permutation(N)
    mean_N = rng.normal(size=7)[category_N]
    value_N = mean_N + mean_N.std() * rng.normal(size=N)
    assert kept(one_hot(category_N), value_N, order_N) == pytest.approx(0.5, abs=0.07)
    assert explained(one_hot(category_N), value_N) == pytest.approx(0.5, abs=0.07)
    assert abs(kept(one_hot(rng.integers(400, size=N)), value_N, order_N)) < 0.03
    finer_N = category_N * 60 + rng.integers(60, size=N)
    assert 0.1 < kept(one_hot(finer_N), value_N, order_N) < 0.5


def test_a_linear_half_and_none() -> None:
    rng = np.random.default_rng(2)
    design_NP, order_N = rng.normal(size=(N, 32)), rng.permutation(N)
    value_N = design_NP @ rng.normal(size=32)
    value_N += value_N.std() * rng.normal(size=N)
    assert kept(design_NP, value_N, order_N) == pytest.approx(0.48, abs=0.07)
    assert abs(kept(design_NP, rng.normal(size=N), order_N)) < 0.03
