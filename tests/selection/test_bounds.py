"""Floors and caps: kept where they can be, idle where they are not broken."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selection.toy import make_cells, planned_rows

from mads.config import SelectionConfig
from mads.errors import UsageError
from mads.selection.bounds import exact_budget, with_shares
from mads.selection.plan import Cursors, make_plan
from mads.selection.take import take


def config(policy: str = "top", **bounds: dict[str, float]) -> SelectionConfig:
    return SelectionConfig(
        policy=policy,
        min_share={"a": bounds.get("low", {})},
        max_share={"a": bounds.get("high", {})},
    )


def shares(policy: str, score: list[float], budget: int, **bounds: dict[str, float]) -> list[float]:
    cells, _ = make_cells([[10] * 100] * len(score))
    start = Cursors.start(len(score))
    plan = make_plan(cells, np.array(score), start, budget, config(policy, **bounds), seed=0)
    return [float(q) / budget for q in plan.quota_C]


@pytest.mark.parametrize("policy", ["top", "sample"])
def test_a_floor_by_hand(policy: str) -> None:
    found = shares(policy, [5.0, 0.0, 0.0], 500, low={"c1": 0.2})
    assert found[1] == pytest.approx(0.2)
    assert found[0] == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("policy", ["top", "sample"])
def test_a_cap_by_hand(policy: str) -> None:
    found = shares(policy, [5.0, 1.0, 1.0], 500, high={"c0": 0.4})
    assert found == pytest.approx([0.4, 0.3, 0.3])


@pytest.mark.parametrize("policy", ["top", "sample", "random"])
def test_bounds_that_hold_anyway_change_nothing(policy: str) -> None:
    free = shares(policy, [1.0, 1.1, 0.9], 900)
    bound = shares(policy, [1.0, 1.1, 0.9], 900, low={"c0": 0.0}, high={"c1": 1.0})
    assert bound == free


def test_a_floor_above_all_there_is_takes_all_of_it() -> None:
    found = shares("top", [5.0, 0.0], 1500, low={"c1": 0.9})
    assert found == pytest.approx([1 / 3, 2 / 3])


def test_caps_that_leave_too_little_fall_short() -> None:
    cells, order = make_cells([[10] * 100] * 2)
    bounds = config("top", high={"c0": 0.3, "c1": 0.3})
    plan = make_plan(cells, np.ones(2), Cursors.start(2), 500, bounds, seed=0)
    assert plan.total == 300
    assert take(cells, plan, planned_rows(cells, order, plan), bounds.decay).num_tokens == 300


@settings(max_examples=60, deadline=None)
@given(
    policy=st.sampled_from(["top", "sample", "random"]),
    score=st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    low=st.lists(st.floats(0, 0.25), min_size=4, max_size=4),
    room=st.lists(st.floats(0, 0.5), min_size=4, max_size=4),
)
def test_bounds_are_kept(
    policy: str, score: list[float], low: list[float], room: list[float]
) -> None:
    high = [min(a + b, 1.0) for a, b in zip(low, room, strict=True)]
    names = [f"c{i}" for i in range(4)]
    found = shares(
        policy,
        score,
        900,
        low=dict(zip(names, low, strict=True)),
        high=dict(zip(names, high, strict=True)),
    )
    for share, least, most in zip(found, low, high, strict=True):
        assert least - 1e-6 <= share <= most + 1e-6
    assert sum(found) == pytest.approx(min(1.0, sum(high)), abs=1e-6)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ({"c9": 0.1}, {}, r"selection.min_share.a.c9: no such category; known: c0, c1"),
        ({"c0": 0.7, "c1": 0.7}, {}, r"min_share.a: the floors add up to 1.4, expected at most 1"),
        ({"c0": 0.5}, {"c0": 0.2}, r"the floor of a.c0 \(0.5\) is above its cap \(0.2\)"),
    ],
)
def test_impossible_bounds(low: dict[str, float], high: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shares("top", [1.0, 1.0], 100, low=low, high=high)


def test_an_unknown_agent() -> None:
    cells, _ = make_cells([[1]])
    bounds = SelectionConfig(max_share={"b": {"c0": 0.5}})
    with pytest.raises(UsageError, match=r"selection.max_share.b: the store has no such agent"):
        make_plan(cells, np.ones(1), Cursors.start(1), 1, bounds, seed=0)


@settings(max_examples=60)
@given(st.data())
def test_shares_of_a_strategy_are_those_of_every_selection(data: st.DataObject) -> None:
    """Over several selections with use in between, whatever the policy, scores and other cells."""
    policy = data.draw(st.sampled_from(["top", "sample", "random"]))
    part = data.draw(st.lists(st.integers(0, 5), min_size=2, max_size=5).filter(any))
    share = {f"c{i}": value / sum(part) for i, value in enumerate(part)}
    sizes = st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=8), min_size=1, max_size=3)
    documents = [data.draw(sizes) for _ in part]
    cells, order = make_cells([cell for own in documents for cell in own])
    category = np.repeat(np.arange(len(part)), [len(own) for own in documents])
    names = tuple(share)
    cells = replace(cells, categories={"a": names}, category_CA=category[:, None].astype(np.uint16))
    held = with_shares(SelectionConfig(policy=policy), {"a": share})
    most = exact_budget(cells, held)
    sizes_J = np.bincount(category, cells.num_tokens_C, len(part))
    assert most == min(s / x for s, x in zip(sizes_J, share.values(), strict=True) if x > 0)
    score_C = np.array([data.draw(st.floats(-2, 2)) for _ in category])
    cursors, budget = Cursors.start(len(cells)), max(int(most), 1)
    for seed in range(3):
        plan = make_plan(cells, score_C, cursors, budget, held, seed, part_tokens=16)
        quota_J = np.bincount(category, plan.quota_C, len(part))
        if budget <= most:
            assert quota_J == pytest.approx(np.array(list(share.values())) * budget, abs=1e-3)
        cursors = take(cells, plan, planned_rows(cells, order, plan), held.decay).cursors


def test_the_largest_exact_budget_by_hand() -> None:
    cells, _ = make_cells([[10] * 100, [10] * 20, [10]])
    held = with_shares(SelectionConfig(), {"a": {"c0": 0.5, "c1": 0.5, "c2": 0.0}})
    assert exact_budget(cells, held) == 400  # all of c1 and as much of c0
    assert exact_budget(cells, config(low={"c1": 0.5})) == math.inf  # a floor alone is not exact
    assert exact_budget(cells, SelectionConfig()) == math.inf
