"""A mixing law: the regression against a slow one, the best mixture by hand, planted weights."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mads.console.tilt import tilted
from mads.rewards.mixing import (
    RIDGES,
    best_tilt,
    fit_law,
    held_out_predictions,
    kl_of,
    shares_of,
)
from mads.rewards.ranks import spearman

HALVES = np.array([0.5, 0.5])
EACH = np.eye(2)


def slow_law(share: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, float]:
    """Refit without each mixture in turn, for every ridge."""
    centred = share - share.mean(axis=0)
    unit = np.square(centred).sum() / share.shape[1]

    def ridge_fit(x: np.ndarray, y: np.ndarray, ridge: float) -> tuple[np.ndarray, float]:
        c = x - x.mean(axis=0)
        w = np.linalg.solve(c.T @ c + ridge * unit * np.eye(x.shape[1]), c.T @ (y - y.mean()))
        return w, y.mean() - x.mean(axis=0) @ w

    errors = []
    for ridge in RIDGES:
        # the same centre for all, which is what the leverages stand for
        centre, level = share.mean(axis=0), loss.mean()
        x, y = share - centre, loss - level
        gram = x.T @ x + ridge * unit * np.eye(x.shape[1])
        hat = x @ np.linalg.solve(gram, x.T) + 1 / len(y)
        errors.append(np.mean(((y - hat @ y) / (1 - np.diag(hat))) ** 2))
    return ridge_fit(share, loss, RIDGES[int(np.argmin(errors))])


def test_the_law_is_the_ridge_regression_of_least_leave_one_out_error() -> None:
    rng = np.random.default_rng(0)
    share = rng.dirichlet(np.ones(5), 30)
    loss = share @ rng.normal(size=5) + 0.05 * rng.normal(size=30)
    law, (weight, level) = fit_law(share, loss), slow_law(share, loss)
    assert law.weight_P == pytest.approx(weight, abs=1e-6)
    assert law.level == pytest.approx(level, abs=1e-6)
    assert law.predict(share) == pytest.approx(share @ weight + level, abs=1e-6)


def test_leave_one_out_errors_are_those_of_laws_that_are_refitted() -> None:
    rng = np.random.default_rng(1)
    share = rng.dirichlet(np.ones(4), 12)
    loss = share @ np.array([1.0, -1.0, 0.0, 0.5]) + 0.01 * rng.normal(size=12)
    x, y = np.hstack([share, np.ones((12, 1))]), loss
    hat = x @ np.linalg.pinv(x)
    refitted = []
    for i in range(12):
        rest = np.arange(12) != i
        refitted.append(y[i] - x[i] @ np.linalg.lstsq(x[rest], y[rest], rcond=None)[0])
    # the formula that fit_law uses, without a ridge
    assert (y - hat @ y) / (1 - np.diag(hat)) == pytest.approx(np.array(refitted), abs=1e-9)


def test_planted_weights_are_found_and_predict_mixtures_that_were_left_out() -> None:
    rng = np.random.default_rng(2)
    weight = np.array([2.0, -1.0, 0.0, 0.5, -3.0])
    share = rng.dirichlet(np.ones(5), 60)
    loss = 4 + share @ weight + 0.1 * rng.normal(size=60)
    found = fit_law(share, loss).weight_P
    centred = weight - weight.mean()  # shares add up to 1, so only differences can be known
    assert found - found.mean() == pytest.approx(centred, abs=0.15)
    assert spearman(held_out_predictions(share, loss), loss) > 0.9
    noise = rng.normal(size=60)
    assert abs(spearman(held_out_predictions(share, noise), noise)) < 0.4


def test_the_best_mixture_by_hand() -> None:
    # shares e^-1 : e^1 have 0.1192 log 0.2384 + 0.8808 log 1.7616 nats
    share = np.exp([-1.0, 1.0]) / np.exp([-1.0, 1.0]).sum()
    limit = float(share @ np.log(share / HALVES))
    tilt = best_tilt(HALVES, EACH, np.array([1.0, -1.0]), limit)
    assert shares_of(HALVES, EACH, tilt) == pytest.approx(share, abs=1e-6)
    assert kl_of(HALVES, EACH, tilt) == pytest.approx(limit, rel=1e-6)
    assert best_tilt(HALVES, EACH, np.zeros(2), 1.0).tolist() == [0.0, 0.0]
    whole = best_tilt(HALVES, EACH, np.array([1.0, -1.0]), 5.0)  # more than log 2 is not to be had
    assert shares_of(HALVES, EACH, whole)[1] == pytest.approx(1)


def test_no_mixture_within_the_limit_has_less_predicted_loss() -> None:
    rng = np.random.default_rng(3)
    corpus = rng.dirichlet(np.ones(12))
    first, second = rng.integers(0, 3, 12), rng.integers(0, 2, 12)
    member = np.hstack([np.eye(3)[first], np.eye(2)[second]])
    weight = rng.normal(size=5)
    limit = 0.3
    best = tilted(corpus, member @ best_tilt(corpus, member, weight, limit))
    value = best @ member @ weight
    for _ in range(2000):  # any distribution over cells, not tilts alone
        other = tilted(best, rng.normal(scale=rng.choice([0.01, 0.1, 0.5]), size=12))
        if other @ np.log(other / corpus) <= limit:
            assert other @ member @ weight >= value - 1e-9


def test_rank_correlation_with_ties_and_without_any_order() -> None:
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 90.0])) == pytest.approx(1)
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])) == pytest.approx(-1)
    assert spearman(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(
        math.sqrt(3) / 2
    )
    assert spearman(np.ones(3), np.array([1.0, 2.0, 3.0])) == 0
