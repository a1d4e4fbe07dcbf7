"""One reward out of several directions'.

Rewards of D directions, of very different size, for N documents:

    mean           Σ_d weight_d r_d: what one step along all of them together gives
    standardised   Σ_d weight_d r_d / σ_d / Σ_d weight_d: no direction drowns the others
    soft_minimum   −log Σ_d weight_d e^(−r_d / σ_d) / Σ_d weight_d: near the least of them, so a
                   document that helps one task and harms another counts little

    r / σ = (2, 0):  standardised (2 + 0) / 2 = 1.0,  soft minimum −log((e⁻² + 1) / 2) = 0.57
"""

from __future__ import annotations

import numpy as np

from mads.types import Floats


def combined(reward_DN: Floats, weight_D: Floats, how: str) -> Floats:
    """Return one reward for each document, shape (N,); ``how`` as in the module's text."""
    if how == "mean":
        found: Floats = weight_D @ reward_DN
        return found
    spread_D = reward_DN.std(axis=1)
    unit_DN = reward_DN / np.where(spread_D > 0, spread_D, 1.0)[:, None]
    share_D = weight_D / weight_D.sum()
    if how == "standardised":
        return np.asarray(share_D @ unit_DN, np.float64)
    least_N = unit_DN.min(axis=0)  # so that no exponential overflows
    return np.asarray(least_N - np.log(share_D @ np.exp(least_N - unit_DN)), np.float64)
