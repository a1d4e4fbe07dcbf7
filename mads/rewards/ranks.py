"""Ranks, and how far two series agree in them."""

from __future__ import annotations

import numpy as np

from mads.types import Floats


def ranks(values: Floats) -> Floats:
    """Return each value's share of smaller ones, in (0, 1); ties share their mean."""
    ordered = np.sort(values)
    low = np.searchsorted(ordered, values, side="left")
    high = np.searchsorted(ordered, values, side="right")
    shares: Floats = (low + high) / 2 / len(values)
    return shares


def spearman(one_N: Floats, two_N: Floats) -> float:
    """Return the rank correlation of two series; 0 where one is constant, no number below two."""
    if len(one_N) < 2:
        return float("nan")
    if np.ptp(one_N) == 0 or np.ptp(two_N) == 0:
        return 0.0
    return float(np.corrcoef(ranks(one_N), ranks(two_N))[0, 1])
