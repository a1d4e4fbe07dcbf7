"""Ticks, scales and texts of numbers, by hand."""

from __future__ import annotations

import doctest
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mads.report.page import scale
from mads.report.page.scale import (
    Scale,
    chunks,
    domain,
    log_domain,
    nice_ticks,
    number,
    percent,
    ratio_ticks,
    short,
    signed,
    smoothed,
    spread,
)

FINITE = st.floats(-1e9, 1e9)


def test_the_examples_hold() -> None:
    assert doctest.testmod(scale).failed == 0


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (-0.5, 0.6, [-0.4, -0.2, 0, 0.2, 0.4, 0.6]),
        (5.9, 7.1, [6, 6.2, 6.4, 6.6, 6.8, 7]),
        (0, 1_638_400, [0, 250_000, 500_000, 750_000, 1_000_000, 1_250_000, 1_500_000]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)


@given(FINITE, FINITE)
def test_ticks_lie_inside_and_are_few(one: float, other: float) -> None:
    low, high = sorted((one, other))
    if high - low > 1e-9 * max(abs(low), abs(high)):
        ticks = nice_ticks(low, high)
        slack = 1e-6 * (high - low)
        assert all(low - slack <= tick <= high + slack for tick in ticks)
        assert 2 <= len(ticks) <= 8


def test_ratios_have_round_ticks() -> None:
    assert ratio_ticks(0.09, 11) == [0.1, 0.2, 0.5, 1, 2, 5, 10]
    assert ratio_ticks(1, 1.5) == [1, 1.1, 1.2, 1.3, 1.4, 1.5]


def test_a_scale_maps_linearly_and_by_logarithms() -> None:
    """5 of 0 to 10 is halfway; 1 of 0.1 to 10 is halfway on a logarithmic one."""
    assert Scale(0, 10, 100, 200)(5) == 150
    assert Scale(0, 10, 200, 100)(2.5) == 175
    assert Scale(0.1, 10, 0, 100, log=True)(1) == pytest.approx(50)
    assert Scale(0, 10, 0, 100)(-5) == 0  # drawn at the end
    assert Scale(2, 2, 0, 100)(2) == 50


def test_domains() -> None:
    assert domain([0, 10], 0.1) == (-1, 11)
    assert domain([2, math.nan, 4, math.inf], 0) == (2, 4)
    assert domain([], 0.1) == (0, 1)
    assert domain([4, 8], 0.5, zero=True) == (0, 12)
    assert domain([-4, -8], 0.5, zero=True) == (-12, 0)
    assert domain([5, 5], 0) == (4.5, 5.5)
    assert log_domain([4.0]) == pytest.approx((4**-0.1, 4**1.1))


def test_labels_are_spread_around_their_mean() -> None:
    assert spread([50, 10], 10, 0, 100) == [50, 10]  # far apart: as they are
    assert spread([50, 50, 50], 10, 0, 100) == [40, 50, 60]
    assert spread([99, 100], 10, 0, 100) == [90, 100]
    assert spread([0, 0, 0], 60, 0, 100) == [0, 50, 100]  # no room: a smaller gap


@given(st.lists(st.floats(0, 300), max_size=30))
def test_labels_never_touch_nor_leave(places: list[float]) -> None:
    found = spread(places, 12, 0, 300)
    gap = min(12, 300 / max(len(places) - 1, 1))
    order = sorted(found)
    assert all(b - a >= gap - 1e-6 for a, b in itertools.pairwise(order))
    assert all(-1e-6 <= place <= 300 + 1e-6 for place in found)
    assert [found[i] for i in sorted(range(len(places)), key=lambda i: places[i])] == order


def test_a_running_mean_is_corrected_for_its_start() -> None:
    """Span 2 halves the weights: (4 · ½ + 1) / 1.5 = 2, (4 · ¼ + 1 · ½ + 1) / 1.75."""
    assert smoothed([4, 1, 1], 2) == pytest.approx([4, 2, 2.5 / 1.75])
    assert smoothed([4, 1], 1) == [4, 1]


def test_chunks_cut_all_and_nothing_twice() -> None:
    assert [list(part) for part in chunks(5, 2)] == [[0, 1], [2, 3, 4]]
    assert [list(part) for part in chunks(2, 9)] == [[0], [1]]
    assert chunks(0, 3) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1234.5, "1,234"),
        (0.000_012, "1.20e−5"),
        (2.85e13, "2.85e13"),
        (-2.50, "−2.5"),
        (math.nan, "–"),
        (-math.inf, "−∞"),
    ],
)
def test_numbers_as_texts(value: float, text: str) -> None:
    assert number(value) == text


def test_other_texts() -> None:
    assert signed(-0.5) == "−0.500"
    assert signed(0.25, 1) == "+0.2"
    assert short(1_234_000_000) == "1.23B"
    assert (percent(0.0001), percent(0.4999)) == ("0%", "50%")
