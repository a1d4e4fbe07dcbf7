"""A least variety of what is read, by hand and for any scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mads.config import SelectionConfig
from mads.selection.plan import Cursors, make_plan
from mads.selection.spread import entropies, spread_temperature
from mads.types import Cells


def two_agents() -> Cells:
    """Four cells of 100, 100, 100 and 700 tokens: kinds a a b b, qualities x y x y."""
    return Cells(
        agents=("kind", "quality"),
        categories={"kind": ("a", "b"), "quality": ("x", "y")},
        category_CA=np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.uint16),
        num_docs_C=np.array([100, 100, 100, 700]),
        num_tokens_C=np.array([1000, 1000, 1000, 7000]),
        first_row_C=np.array([0, 100, 200, 300]),
    )


def entropy(*shares: float) -> float:
    return -sum(share * math.log(share) for share in shares)


def test_entropies_by_hand() -> None:
    cells = two_agents()
    found = entropies(cells, cells.num_tokens_C.astype(float))
    assert found == pytest.approx([entropy(0.2, 0.8), entropy(0.2, 0.8)])
    assert entropies(cells, np.array([1.0, 1.0, 0.0, 0.0])) == pytest.approx([0.0, math.log(2)])


def test_a_mixture_that_is_spread_enough_stays_as_it_is() -> None:
    cells = two_agents()
    score_C = np.array([1.0, 1.0, 0.0, 0.0])
    assert spread_temperature(cells, score_C, 0.25, 0.0) == 0.25
    assert spread_temperature(cells, score_C, 1.0, 0.5) == 1.0


def test_the_temperature_rises_until_the_least_entropy_is_kept() -> None:
    """One category of an agent with two: a goes from 0.2 to what half of its entropy allows."""
    cells = two_agents()
    score_C = np.array([5.0, 5.0, 0.0, 0.0])
    warmth = spread_temperature(cells, score_C, 0.25, 0.5)
    tilted_C = np.asarray(cells.num_tokens_C * np.exp(score_C / warmth), np.float64)
    assert entropies(cells, tilted_C)[0] == pytest.approx(0.5 * entropy(0.2, 0.8), rel=1e-6)
    share = float(tilted_C[:2].sum() / tilted_C.sum())
    assert 0.9 < share < 0.95


@given(
    score_C=st.lists(st.floats(-50, 50), min_size=4, max_size=4),
    least=st.floats(0, 0.99),
    temperature=st.floats(1e-3, 10),
)
def test_it_holds_for_all_agents_and_never_falls(
    score_C: list[float], least: float, temperature: float
) -> None:
    cells = two_agents()
    warmth = spread_temperature(cells, np.array(score_C), temperature, least)
    assert warmth >= temperature
    log_C = np.array(score_C) / warmth
    tilted_C = cells.num_tokens_C * np.exp(log_C - log_C.max())
    goal_A = least * entropies(cells, cells.num_tokens_C.astype(float))
    assert (entropies(cells, tilted_C) >= goal_A - 1e-9).all()


def test_a_plan_keeps_it() -> None:
    cells = two_agents()
    score_C = np.array([5.0, 5.0, 0.0, 0.0])
    shares = []
    for least in (0.0, 0.5):
        config = SelectionConfig(least_entropy=least)
        plan = make_plan(cells, score_C, Cursors.start(4), 500, config, seed=0)
        shares.append(float(plan.quota_C[:2].sum() / plan.quota_C.sum()))
    assert shares[0] > 0.999
    assert 0.85 < shares[1] < 0.95
