"""Exact quantile edges against sorting, with ties, few values and any cut into shards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mads.agents.agent import bin_numbers
from mads.annotate.quantiles import nearest_edges, quantile_edges, sort_keys


def edges_of(values: Sequence[float], bins: int, parts: int = 1) -> tuple[float, ...]:
    scores = np.array(values, np.float32)
    return quantile_edges(lambda: np.array_split(scores, parts), bins)


def counts(values: Sequence[float], edges: tuple[float, ...], bins: int) -> list[int]:
    found = bin_numbers(np.array(values, np.float32).astype(np.float64), edges)
    return [int((found == number).sum()) for number in range(bins)]


def slow_edges(values: Sequence[float], bins: int) -> tuple[float, ...]:
    """Sort everything; put each edge at the boundary of distinct scores nearest to its goal."""
    ordered = sorted(float(np.float32(value)) + 0.0 for value in values)
    inner = [i for i in range(1, len(ordered)) if ordered[i - 1] < ordered[i]]
    if not inner:
        return ()
    goals = [k * len(ordered) for k in range(1, bins)]
    return tuple(ordered[min(inner, key=lambda i: (abs(i * bins - g), i))] for g in goals)


def test_edges_by_hand() -> None:
    assert edges_of([5, 1, 4, 2, 3, 6], 3) == (3, 5)
    assert edges_of([1, 2, 3], 2) == (2,)  # 1.5 documents: the lower of two boundaries as near
    assert edges_of([0, 0, 0, 0, 0, 0, 0, 1, 2, 3], 5) == (1, 1, 1, 2)
    assert edges_of([1, 2, 3, 5, 5, 5], 3) == (3, 5)
    assert edges_of([0, 0, 0, 0, 9], 5) == (9, 9, 9, 9)
    assert edges_of([7, 7, 7], 5) == ()
    assert edges_of([], 5) == ()


def test_the_nearest_boundary_by_hand() -> None:
    # Scores a a b b b b c: an edge at 3.5 of 7 is 1.5 from the boundary at 2 and 2.5 from 6.
    before, through = np.array([0, 2, 6]), np.array([2, 6, 7])
    assert nearest_edges(before, through, 7, 2).tolist() == [1]
    assert nearest_edges(before, through, 7, 3).tolist() == [1, 2]  # at 2.33 and at 4.67


SCORES = st.one_of(
    st.integers(-3, 3).map(float),
    st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38, 1.0, 1.0000001]),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@given(st.lists(SCORES, max_size=60), st.integers(2, 12), st.integers(1, 5))
def test_edges_equal_those_of_sorting(values: list[float], bins: int, parts: int) -> None:
    assert edges_of(values, bins, parts) == slow_edges(values, bins)


@given(st.lists(SCORES, min_size=2, max_size=60), st.integers(2, 12))
def test_every_score_has_a_bin_and_the_outer_ones_are_never_empty(
    values: list[float], bins: int
) -> None:
    edges = edges_of(values, bins)
    found = counts(values, edges, bins)
    assert sum(found) == len(values)
    if len({value + 0.0 for value in np.array(values, np.float32).tolist()}) == 1:
        assert edges == ()
    else:
        assert len(edges) == bins - 1
        assert found[0] > 0
        assert found[-1] > 0


@pytest.mark.parametrize("bins", [2, 5, 7, 100])
@pytest.mark.parametrize("draw", ["uniform", "normal", "exponential"])
def test_bins_of_distinct_scores_are_equal_to_one_document(bins: int, draw: str) -> None:
    rng = np.random.default_rng(bins)
    values: NDArray[np.float32] = getattr(rng, draw)(size=30_000).astype(np.float32)
    values = np.unique(values)
    rng.shuffle(values)
    edges = quantile_edges(lambda: np.array_split(values, 9), bins)
    assert edges == slow_edges(values.tolist(), bins)
    found = counts(values.tolist(), edges, bins)
    assert max(found) - min(found) <= 1


def test_the_order_of_scores_and_their_shards_do_not_matter() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=5000).astype(np.float32).round(2)
    once = quantile_edges(lambda: [values], 5)
    again = quantile_edges(lambda: np.array_split(values[::-1].copy(), 7), 5)
    assert once == again
    empty = np.zeros(0, np.float32)
    assert quantile_edges(lambda: [empty, values, empty], 5) == once


def test_keys_stand_in_the_order_of_the_scores() -> None:
    scores = [-3.4e38, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1.0, 1.0000001, 3.4e38]
    keys = sort_keys(np.array(scores, np.float32)).tolist()
    assert keys == sorted(keys)
    assert keys[3] == keys[4]
    assert len(set(keys)) == len(keys) - 1
