"""Shares that are given: checked before anything is trained; a console that begins with them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from console.toy import feedback, reward

from mads.errors import DataError, UsageError
from mads.files import write_sealed_json
from mads.recipe import recipe_from_table, to_table
from mads.selection.composition import shares
from mads.selection.plan import Cursors, make_plan
from mads.strategies import read_strategy
from mads.strategies.console import Console
from mads.strategies.mixture import Mixture, mixture_weights, whole_shares
from mads.strategies.published import DOMAINS, PUBLISHED, published
from mads.strategies.strategy import Evidence
from mads.types import Cells

CELLS = Cells(
    agents=("quality", "domain"),
    categories={"quality": ("low", "high"), "domain": ("web", "code", "books", "none")},
    category_CA=np.array([[0, 0], [1, 0], [0, 1], [1, 2]], np.uint16),
    num_docs_C=np.array([100, 100, 50, 50]),
    num_tokens_C=np.array([400_000, 300_000, 200_000, 100_000]),
    first_row_C=np.array([0, 100, 200, 250]),
)
GIVEN = {"domain": {"web": 0.35, "code": 0.05, "books": 0.6}}


def test_its_shares_are_those_given_in_every_round() -> None:
    recipe = recipe_from_table({"strategy": "mixture", "mixture": GIVEN}, "test")
    found = Mixture.start(CELLS, recipe)
    assert found.needs is Evidence.NOTHING
    for _ in range(2):
        assert found.shares == {"domain": {"web": 0.35, "code": 0.05, "books": 0.6, "none": 0.0}}
        assert found.scores(CELLS).tolist() == [1.0] * 4
        found = found.next_round()
    after = found.updated(feedback({"domain": {"web": reward(9.0)}})).strategy
    assert after.shares == found.shares


@pytest.mark.parametrize(
    ("mixture", "said"),
    [
        ({"domian": {"web": 1.0}}, "mixture.domian: there is no such agent; did you mean 'domain"),
        ({"domain": {"webb": 1.0}}, "mixture.domain.webb: no such category; did you mean 'web'?"),
        ({"domain": {"none": 1.0}}, "mixture.domain.none: found 1, but the store has no document"),
        (
            {"domain": published("doremi")},
            "mixture.domain.CommonCrawl: no such category; write the published shares with your "
            "own names (CommonCrawl = 0.3810, C4 = 0.1141, GitHub = 0.0654, Book = 0.0819",
        ),
    ],
)
def test_what_the_store_does_not_have(mixture: dict[str, dict[str, float]], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        whole_shares(CELLS, mixture)
    assert said in str(caught.value)


def test_a_state_of_another_kind(tmp_path: Path) -> None:
    path, recipe = tmp_path / "console.json", recipe_from_table({}, "test")
    write_sealed_json(path, {"strategy": "mixture", "round": 0, "shares": {"domain": {"a": 2.0}}})
    with pytest.raises(DataError, match=r"of the strategy 'mixture': shares\.domain\.a: found 2"):
        read_strategy(path, recipe)


def test_published_mixtures_add_up_to_one_under_the_names_of_slimpajama() -> None:
    for name, percent in PUBLISHED.items():
        assert sum(percent) == pytest.approx(100, abs=0.05)
        assert tuple(published(name)) == DOMAINS
        assert sum(published(name).values()) == pytest.approx(1.0, abs=1e-12)
    # 23.07 of 100.03 and 29.77 of 99.98, by hand
    assert published("doremi")["Wikipedia"] == pytest.approx(0.230631, abs=1e-6)
    assert published("regmix")["Wikipedia"] == pytest.approx(0.297760, abs=1e-6)


def test_a_name_becomes_its_shares_and_the_resolved_recipe_is_read_back() -> None:
    recipe = recipe_from_table({"strategy": "mixture", "mixture": {"domain": "doge"}}, "test")
    assert recipe.mixture == {"domain": published("doge")}
    assert recipe_from_table(to_table(recipe), "test") == recipe


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            {"strategy": "mixture", "mixture": {"domain": "doremy"}},
            "mixture.domain: 'doremy' is no published mixture; did you mean 'doremi'?",
        ),
        (
            {"strategy": "mixture", "mixture": {"domain": {"web": 0.5, "code": 0.49}}},
            "mixture.domain: the shares add up to 0.99, expected 1; a category that is not named",
        ),
        (
            {"strategy": "mixture", "mixture": {"domain": {"web": 50, "code": 50}}},
            "mixture.domain.web: found 50.0, expected 0 to 1",
        ),
        (
            {"strategy": "mixture"},
            "mixture: expected the shares of one agent's categories, found",
        ),
        (
            {"strategy": "mixture", "mixture": {"a": {"x": 1.0}, "b": {"y": 1.0}}},
            "expected the shares of one agent's categories, found a, b",
        ),
        ({"mixture": GIVEN}, 'mixture: nothing uses it; set strategy = "mixture", or console.st'),
        (
            {"strategy": "fixed", "console": {"start": "mixture"}, "mixture": GIVEN},
            'console.start: only the strategy "console" begins with a mixture, found "fixed"',
        ),
        (
            {"console": {"start": "mixture", "prior": {"a": {"x": 2.0}}}, "mixture": GIVEN},
            'console.start: "mixture" finds a prior, but console.prior or console.prior_file',
        ),
    ],
)
def test_a_mixture_that_cannot_be_meant(table: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe_from_table(table, "test")
    assert said in str(caught.value)


@pytest.mark.parametrize("key", ["min_share", "max_share"])
def test_bounds_of_the_same_agent_are_refused(key: str) -> None:
    bounds = {key: {"domain": {"web": 0.5}}}
    table = {"strategy": "mixture", "mixture": GIVEN, "selection": bounds}
    with pytest.raises(UsageError, match=rf"{key}\.domain: the strategy 'mixture' gives all shar"):
        Mixture.start(CELLS, recipe_from_table(table, "test"))


def test_a_sum_within_a_millionth_is_one() -> None:
    near = {"domain": {"web": 0.5, "code": 0.5 + 9e-7}}
    assert recipe_from_table({"strategy": "mixture", "mixture": near}, "test").mixture == near


def test_weights_by_hand() -> None:
    """Web has 0.7 of the tokens, code 0.2, books 0.1; two agents, τ = 0.25."""
    found = mixture_weights(CELLS, GIVEN, 0.25, 2)["domain"]
    assert found["web"] == pytest.approx(1 + 0.5 * math.log(0.5))
    assert found["code"] == pytest.approx(1 + 0.5 * math.log(0.25))
    assert found["books"] == pytest.approx(1 + 0.5 * math.log(6))
    assert found["none"] == 1.0
    without = mixture_weights(CELLS, {"domain": {"web": 1.0}}, 0.25, 2)["domain"]
    assert without["code"] == 1 - 0.5 * 6


def test_a_console_begins_with_the_mixture() -> None:
    table = {"console": {"start": "mixture"}, "mixture": GIVEN}
    recipe = recipe_from_table(table, "test")
    score_C = Console.start(CELLS, recipe).scores(CELLS)
    plan = make_plan(CELLS, score_C, Cursors.start(4), 1_000, recipe.selection, 0)
    found = shares(CELLS, plan.quota_C)
    for name, share in GIVEN["domain"].items():
        assert found["domain"][name] == pytest.approx(share, abs=0.005)
    # Within the web both qualities are as the corpus has them.
    assert plan.quota_C[0] / plan.quota_C[1] == pytest.approx(4 / 3, rel=0.01)
