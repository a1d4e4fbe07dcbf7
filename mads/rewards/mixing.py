"""A mixing law: what a mixture of categories does to a loss, learned from mixtures that were tried.

    loss ≈ level + Σ_P weight_P · share_P

with the shares of tokens of all agents' categories (the linear regression of RegMix: Liu et al.
2025, arXiv 2407.01492, here with a ridge that leave-one-out errors choose). Under a limit on
KL(mixture ‖ corpus), the mixture with the least predicted loss is a tilt of the corpus against the
weights, ``share_C ∝ corpus_C · exp(−Σ weight / λ)``: an exponential family, so equation 6 says it
exactly, and only λ remains to be chosen.

    halves of a corpus with weights (+1, −1); λ = 1:  shares e^−1 : e^1 = 0.12 : 0.88
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mads.console.tilt import divergence, largest_step, tilted
from mads.types import Floats

RIDGES = tuple(10.0**power for power in range(-5, 4))  # relative to the mean variance of a share
FOLDS = 8
MOST_STEP = 1e4  # of −weight, in units of 1 / largest weight: a single cell by then


@dataclass(frozen=True, slots=True, eq=False)
class MixingLaw:
    """Weights (P,) of shares, the loss at shares of 0, and the ridge that was chosen."""

    weight_P: Floats
    level: float
    ridge: float

    def predict(self, share_NP: Floats) -> Floats:
        """Return the loss of each of N mixtures."""
        found: Floats = share_NP @ self.weight_P + self.level
        return found


def fit_law(share_NP: Floats, loss_N: Floats) -> MixingLaw:
    """Fit the law to N mixtures and their losses, with the ridge of least leave-one-out error.

    The error left out of a ridge regression is its residual over 1 − leverage, so none is refitted.
    """
    mean_P, mean = share_NP.mean(axis=0), float(loss_N.mean())
    centred_NP, value_N = share_NP - mean_P, loss_N - mean
    left_NK, size_K, right_KP = np.linalg.svd(centred_NP, full_matrices=False)
    unit = float(np.square(size_K).sum()) / max(share_NP.shape[1], 1) or 1.0
    projected_K = left_NK.T @ value_N

    def left_out(ridge: float) -> float:
        kept_K = size_K**2 / (size_K**2 + ridge * unit)
        leverage_N = np.square(left_NK) @ kept_K + 1 / len(loss_N)  # the level's own
        residual_N = value_N - left_NK @ (kept_K * projected_K)
        return float(np.mean(np.square(residual_N / np.maximum(1 - leverage_N, 1e-9))))

    ridge = min(RIDGES, key=left_out)
    weight_P = right_KP.T @ (size_K / (size_K**2 + ridge * unit) * projected_K)
    return MixingLaw(weight_P, mean - float(mean_P @ weight_P), ridge)


def held_out_predictions(share_NP: Floats, loss_N: Floats) -> Floats:
    """Return each mixture's loss as a law predicts it that was fitted without its fold."""
    fold_N = np.arange(len(loss_N)) % min(FOLDS, len(loss_N))
    found_N = np.empty(len(loss_N))
    for fold in np.unique(fold_N):
        out = fold_N == fold
        found_N[out] = fit_law(share_NP[~out], loss_N[~out]).predict(share_NP[out])
    return found_N


def best_tilt(corpus_C: Floats, member_CP: Floats, weight_P: Floats, max_kl: float) -> Floats:
    """Return log-factors (P,) of the mixture with the least loss within KL(mixture ‖ corpus)."""
    largest = float(np.abs(weight_P).max())
    if largest == 0:
        return np.zeros(len(weight_P))
    goal_P = -weight_P / largest * MOST_STEP
    step = largest_step(corpus_C, np.zeros(len(corpus_C)), member_CP @ goal_P, max_kl)
    found: Floats = step * goal_P
    return found


def shares_of(corpus_C: Floats, member_CP: Floats, log_factor_P: Floats) -> Floats:
    """Return the shares of P categories in a tilted mixture."""
    found: Floats = tilted(corpus_C, member_CP @ log_factor_P) @ member_CP
    return found


def kl_of(corpus_C: Floats, member_CP: Floats, log_factor_P: Floats) -> float:
    """Return KL(mixture ‖ corpus) of a tilted mixture, in nats."""
    return divergence(tilted(corpus_C, member_CP @ log_factor_P), corpus_C)
