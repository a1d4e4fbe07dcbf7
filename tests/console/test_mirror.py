"""Mirror descent on the mixture: its equations by hand, and what a round may move."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from console.toy import feedback, reward, section

from mads.console import initial_state, update
from mads.console.mirror import (
    TEMPERATURE,
    MirrorConfig,
    Mixture,
    read_mixture,
)
from mads.console.state import console_from_json, console_to_json
from mads.console.tilt import divergence
from mads.errors import DataError
from mads.types import ConsoleState

CATEGORIES = {"domain": ["web", "code"]}
HELPS = {"domain": {"web": reward(1.0), "code": reward(-1.0)}}
EQUAL = {"domain": {"web": reward(0.0), "code": reward(0.0)}}


def config(**values: Any) -> MirrorConfig:
    found = section("mirror")
    assert isinstance(found, MirrorConfig)
    return replace(found, **values)


def mixture(state: ConsoleState) -> Mixture:
    assert isinstance(state.memory, Mixture)
    return state.memory


def shares(state: ConsoleState) -> list[float]:
    """Return what `sample` reads of two equally large categories of one agent."""
    rate = [
        math.exp(state.theta["domain"] * w / TEMPERATURE) for w in state.weights["domain"].values()
    ]
    return [value / sum(rate) for value in rate]


def test_shares_move_by_the_effect_and_no_further_than_the_trust_region() -> None:
    state = initial_state(CATEGORIES)
    free = update(state, feedback(HELPS), config(max_kl=100.0, pull=0.0)).state
    factor, effect = mixture(free).log_factor, mixture(free).belief.mean
    assert factor["domain/web"] == pytest.approx(effect["domain/web"])
    web, code = shares(free)
    assert web / code == pytest.approx(math.exp(effect["domain/web"] - effect["domain/code"]))
    bounded = update(state, feedback(HELPS), config(max_kl=0.01)).state
    assert divergence(np.array(shares(bounded)), np.array([0.5, 0.5])) == pytest.approx(
        0.01, rel=1e-3
    )


def test_equal_rewards_leave_the_mixture_and_pull_leads_back_to_the_prior() -> None:
    prior = {"domain": {"web": 2.0}}
    begun = initial_state(CATEGORIES, prior)
    resting = update(begun, feedback(EQUAL), config(half_life=0.01)).state
    assert shares(resting) == pytest.approx(shares(begun), abs=0.02)
    moved = update(
        begun, feedback({"domain": {"web": reward(-1.0), "code": reward(1.0)}}), config()
    )
    start = mixture(moved.state).start
    assert start == {"domain/web": pytest.approx(1.0 / TEMPERATURE), "domain/code": 0.0}
    state = moved.state
    for _ in range(60):
        state = update(state, feedback(EQUAL), config(pull=0.2, half_life=0.01)).state
    assert shares(state) == pytest.approx(shares(begun), abs=0.05)


def test_a_factor_is_bounded_however_long_the_effects_last() -> None:
    state = initial_state(CATEGORIES)
    for _ in range(80):
        state = update(state, feedback(HELPS), config(pull=0.0, max_factor=5.0)).state
    assert max(mixture(state).log_factor.values()) == pytest.approx(math.log(5))
    assert min(mixture(state).log_factor.values()) == pytest.approx(-math.log(5))


def test_a_category_that_is_not_probed_keeps_its_share_factor() -> None:
    state = update(initial_state(CATEGORIES), feedback(HELPS), config()).state
    before = mixture(state).log_factor["domain/code"]
    after = update(state, feedback({"domain": {"web": reward(1.0)}}), config()).state
    assert mixture(after).log_factor["domain/code"] == before


def test_a_mixture_of_other_categories_is_refused() -> None:
    state = update(initial_state(CATEGORIES), feedback(HELPS), config()).state
    path = Path("console.json")
    value = console_to_json(state)
    assert console_from_json(value, path) == state
    del value["memory"]["start"]["domain/web"]
    with pytest.raises(DataError, match=r"its mixture is not of the categories of its weights"):
        console_from_json(value, path)
    value = console_to_json(state)
    del value["memory"]["belief"]["mean"]["domain/web"]
    with pytest.raises(DataError, match=r"its memory is not of the categories of its weights"):
        read_mixture(value["memory"], state, path)
