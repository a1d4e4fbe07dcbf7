"""Exact quantile edges of any number of scores, in two passes and about 1 MB for each bin.

Scores are float32, of which there are 2^32: the first pass counts them by their upper 16 bits, the
second counts by their lower 16 bits what lies where an edge must fall. Nothing is sorted or
sampled, so the edges depend on neither the order of the scores nor the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

Scores = Callable[[], Iterable[NDArray[np.float32]]]
"""Called once for each pass; yields the same finite scores each time."""

_HALF = 1 << 16
_SIGN = np.uint32(1 << 31)


def quantile_edges(scores: Scores, num_bins: int) -> tuple[float, ...]:
    """Return the edges that cut all scores into bins of as equal counts as ties allow.

    There are ``num_bins - 1`` edges, rising, each a score that occurs, which belongs to the bin
    above it; equal edges mean an empty bin. Scores that are all equal have no edge.
    """
    count_K = np.zeros(_HALF, np.int64)  # by upper half
    for score_N in scores():
        count_K += np.bincount(sort_keys(score_N) >> np.uint32(16), minlength=_HALF)
    filled_B = np.flatnonzero(count_K)
    through_B = np.cumsum(count_K[filled_B])
    if not len(filled_B):
        return ()
    goal_E = np.arange(1, num_bins) * through_B[-1]
    found_E = np.searchsorted(through_B * num_bins, goal_E)
    # An edge may be the least score of the next half that occurs.
    wanted = np.unique(np.concatenate((found_E, np.minimum(found_E + 1, len(filled_B) - 1))))
    half_W, count_W = filled_B[wanted], count_K[filled_B[wanted]]
    key_V, count_V = _count_values(scores, half_W)
    # Between the wanted halves lie others, whose scores count too.
    skipped_W = (through_B[wanted] - count_W) - (np.cumsum(count_W) - count_W)
    through_V = np.cumsum(count_V) + skipped_W[np.searchsorted(half_W, key_V >> np.uint32(16))]
    edge_E = nearest_edges(through_V - count_V, through_V, int(through_B[-1]), num_bins)
    return tuple(float(score) for score in _from_keys(key_V[edge_E]))


def _count_values(
    scores: Scores, half_W: NDArray[np.int64]
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return the scores (as keys, rising) whose upper half is wanted, and their counts."""
    slot_K = np.full(_HALF, -1, np.int64)
    slot_K[half_W] = np.arange(len(half_W))
    count_WK = np.zeros(len(half_W) * _HALF, np.int64)
    for score_N in scores():
        key_N = sort_keys(score_N)
        slot_N = slot_K[key_N >> np.uint32(16)]
        place_N = slot_N * _HALF + (key_N & np.uint32(_HALF - 1))
        place, count = np.unique(place_N[slot_N >= 0], return_counts=True)
        count_WK[place] += count
    place = np.flatnonzero(count_WK)
    key_V = half_W[place // _HALF] * _HALF + place % _HALF
    return key_V.astype(np.uint32), count_WK[place]


def nearest_edges(
    before_V: NDArray[np.int64], through_V: NDArray[np.int64], total: int, num_bins: int
) -> NDArray[np.int64]:
    """Return for each edge the value V that begins the bin above it.

    ``before_V`` scores are lower than each distinct value, ``through_V`` lower or equal. Edge k
    stands where k/num_bins of all scores would lie below it, moved to the nearer end of the tied
    scores there (the lower one when both are as near), but never below the lowest score or above
    the highest: so the first and the last bin are never empty.
    """
    goal_E = np.arange(1, num_bins, dtype=np.int64) * total
    value_E = np.searchsorted(through_V * num_bins, goal_E)
    below_E, above_E = before_V[value_E], through_V[value_E]
    nearer_above_E = goal_E - below_E * num_bins > above_E * num_bins - goal_E
    goes_up_E = (nearer_above_E | (below_E == 0)) & (above_E < total)
    all_equal_E = (below_E == 0) & (above_E == total)
    edge_E: NDArray[np.int64] = np.add(value_E, goes_up_E)[~all_equal_E]
    return edge_E


def sort_keys(score_N: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return whole numbers in the order of the scores; -0.0 and 0.0 are one score."""
    bits_N = (score_N + np.float32(0)).view(np.uint32)
    return np.where(bits_N & _SIGN, ~bits_N, bits_N | _SIGN)


def _from_keys(key_N: NDArray[np.uint32]) -> NDArray[np.float32]:
    bits_N = np.where(key_N & _SIGN, key_N ^ _SIGN, ~key_N)
    return bits_N.astype(np.uint32).view(np.float32)
