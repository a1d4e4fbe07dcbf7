"""Every policy keeps the contract; each one by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from selection.toy import make_cells

from mads.config import SelectionConfig
from mads.selection.plan import Cursors, make_plan
from mads.selection.policies import POLICIES, Policy, exponential_clocks, top_levels
from mads.types import Floats

every_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=list(POLICIES))
levels = st.lists(
    st.tuples(st.floats(-3, 3), st.integers(0, 5), st.integers(1, 1000)), min_size=1, max_size=20
)


@every_policy
@given(levels=levels, part=st.floats(0.001, 0.999), temperature=st.floats(0.01, 10))
def test_shares_meet_the_budget_and_lie_between_0_and_1(
    policy: Policy, levels: list[tuple[float, int, int]], part: float, temperature: float
) -> None:
    score, uses, size = zip(*levels, strict=True)
    size_L = np.array(size, float)
    budget = part * float(size_L.sum())
    config = SelectionConfig(temperature=temperature)
    share_L = policy.share(np.array(score), np.array(uses), size_L, budget, config)
    assert share_L.shape == size_L.shape
    assert share_L.min() >= 0
    assert share_L.max() <= 1
    assert share_L @ size_L == pytest.approx(budget)


@every_policy
def test_scores_matter_just_where_a_policy_says_so(policy: Policy) -> None:
    cells, _ = make_cells([[10] * 100, [10] * 100])
    name = next(key for key, value in POLICIES.items() if value is policy)
    config = SelectionConfig(policy=name)
    plans = [
        make_plan(cells, np.array(score), Cursors.start(2), 500, config, 0)
        for score in ([0.0, 1.0], [1.0, 0.0])
    ]
    same = plans[0].quota_C.tolist() == plans[1].quota_C.tolist()
    assert same is not policy.uses_scores
    if policy.uses_scores:
        assert plans[0].quota_C[1] > plans[0].quota_C[0]


@every_policy
def test_only_a_policy_in_order_takes_levels_whole(policy: Policy) -> None:
    cells, _ = make_cells([[10] * 10, [10] * 10])
    name = next(key for key, value in POLICIES.items() if value is policy)
    cursors = replace(Cursors.start(2), passes_C=np.array([0, 1]))
    plan = make_plan(cells, np.ones(2), cursors, 150, SelectionConfig(policy=name), 0)
    assert bool(plan.whole_C.sum() > 0) is policy.in_order


def test_a_new_policy_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan knows no policy by name."""

    def last_first(*arguments: object) -> Floats:
        return np.array([0.0, 1.0, 0.0, 0.0])

    monkeypatch.setitem(POLICIES, "mine", Policy(last_first, uses_scores=True, in_order=True))
    cells, _ = make_cells([[10], [10]])
    config = SelectionConfig(policy="mine")
    plan = make_plan(cells, np.array([5.0, 0.0]), Cursors.start(2), 10, config, 0)
    assert plan.quota_C.tolist() == [0.0, 10.0]


def test_top_levels_by_hand() -> None:
    share = top_levels(
        np.array([2.0, 1.0, 1.0, 0.0]),
        np.array([0, 0, 0, 0]),
        np.array([10.0, 20.0, 60.0, 5.0]),
        budget=50,
    )
    assert share == pytest.approx([1.0, 0.5, 0.5, 0.0])


def test_among_equal_scores_the_less_used_come_first() -> None:
    share = top_levels(np.ones(2), np.array([1, 0]), np.array([10.0, 10.0]), budget=10)
    assert share == pytest.approx([0.0, 1.0])


def test_exponential_clocks_by_hand() -> None:
    """Two levels whose rates differ by a factor e: 1 − p₂ = (1 − p₁)^e, and the budget is met."""
    tokens = np.array([100.0, 100.0])
    share = exponential_clocks(np.array([0.0, 0.25]), tokens, budget=80, temperature=0.25)
    assert 1 - share[1] == pytest.approx((1 - share[0]) ** np.e)
    assert share @ tokens == pytest.approx(80)


def test_clocks_with_far_scores_do_not_overflow() -> None:
    tokens = np.array([100.0, 100.0, 100.0])
    share = exponential_clocks(np.array([-1e4, 0.0, 1e4]), tokens, budget=150, temperature=0.1)
    assert share == pytest.approx([0.0, 0.5, 1.0], abs=1e-6)


def test_clocks_equal_gumbel_top_k_over_documents() -> None:
    """The share of a cell is its documents' chance in a document-level Gumbel top-k."""
    rng = np.random.default_rng(0)
    docs = np.array([400, 200, 100])
    score = np.array([0.0, 0.3, 0.6])
    cell = np.repeat(np.arange(3), docs)
    hits = np.zeros(3)
    for _ in range(300):
        keys = score[cell] / 0.25 + rng.gumbel(size=len(cell))
        hits += np.bincount(cell[np.argsort(-keys)[:210]], minlength=3)
    share = exponential_clocks(score, docs.astype(float), budget=210, temperature=0.25)
    error = np.sqrt(share * (1 - share) / docs / 300)
    assert np.all(np.abs(hits / 300 / docs - share) < 5 * error)
