"""Means over seeds with their intervals, by hand."""

from __future__ import annotations

import math

import pytest

from mads.report.statistics import Estimate, estimate, geometric, t_quantile, t_within
from mads.report.statistics import tokens_to_reach as reach


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (10, 2.228), (29, 2.045)],
)
def test_quantiles_of_t_are_those_of_printed_tables(freedom: int, expected: float) -> None:
    assert t_quantile(freedom) == pytest.approx(expected, abs=5e-4)


def test_many_degrees_of_freedom_are_the_normal_distribution() -> None:
    assert t_quantile(100_000) == pytest.approx(1.95996, abs=1e-4)
    assert t_within(1.0, 100_000) == pytest.approx(math.erf(1 / math.sqrt(2)), abs=1e-5)
    assert t_within(0.0, 3) == 0


def test_one_degree_and_two_have_closed_forms() -> None:
    assert t_within(1.0, 1) == pytest.approx(0.5)  # Cauchy: 2/π · arctan 1
    assert t_within(1.0, 2) == pytest.approx(1 / math.sqrt(3))  # t / √(2 + t²)


def test_the_mean_of_three_seeds() -> None:
    """1, 2, 6: mean 3, variance (4 + 1 + 9) / 2 = 7, standard error √(7/3) = 1.5275."""
    found = estimate([1.0, 2.0, 6.0])
    assert found.mean == 3
    assert found.stderr == pytest.approx(1.527525)
    assert found.low == pytest.approx(3 - 4.302653 * 1.527525, abs=1e-5)
    assert found.high == pytest.approx(3 + 4.302653 * 1.527525, abs=1e-5)


def test_one_seed_has_no_interval() -> None:
    assert estimate([1.5]) == Estimate(1.5, None, None, None)
    one = geometric([2.0])
    assert one.mean == pytest.approx(2.0)
    assert (one.stderr, one.low, one.high) == (None, None, None)


def test_equal_seeds_have_an_interval_of_no_width() -> None:
    assert estimate([2.0, 2.0]) == Estimate(2.0, 0.0, 2.0, 2.0)


def test_the_geometric_mean_of_two_seeds() -> None:
    """1 and 4: logarithms 0 and ln 4, mean ln 2, standard error ln 2, t = 12.706."""
    found = geometric([1.0, 4.0])
    assert found.mean == pytest.approx(2)
    assert found.stderr == pytest.approx(math.log(2))
    assert found.low == pytest.approx(2 ** (1 - 12.7062), rel=1e-4)
    assert found.high == pytest.approx(2 ** (1 + 12.7062), rel=1e-4)


def test_tokens_until_a_loss_lie_on_the_line_between_two_points() -> None:
    """From 4 at 100 tokens to 2 at 300: 3.5 is there after a quarter of the way."""
    assert reach([0, 100, 300], [6.0, 4.0, 2.0], 3.5) == 150
    assert reach([0, 100, 300], [6.0, 4.0, 2.0], 4.0) == 100
    assert reach([0, 100, 300], [6.0, 4.0, 2.0], 2.0) == 300
    assert reach([0, 100, 300], [6.0, 4.0, 2.0], 7.0) == 0


def test_the_first_time_counts_where_a_curve_goes_up_again() -> None:
    assert reach([0, 100, 200, 300], [5.0, 3.0, 4.0, 2.0], 3.5) == 75


def test_a_curve_that_never_reaches_a_loss_is_not_drawn_on() -> None:
    assert reach([0, 100, 300], [6.0, 4.0, 2.0], 1.99) is None
