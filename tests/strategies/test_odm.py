"""The bandit over categories: its equations by hand, and where it comes to rest."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mads.config import Recipe
from mads.errors import DataError, UsageError
from mads.files import write_sealed_json
from mads.recipe import recipe_from_table
from mads.strategies import read_strategy
from mads.strategies.odm import Odm, exploration, importance_weighted, policy
from mads.strategies.strategy import Evidence
from mads.types import Cells, TrainingLosses

CELLS = Cells(
    agents=("domain",),
    categories={"domain": ("web", "code", "books", "none")},
    category_CA=np.array([[0], [1], [2]], np.uint16),
    num_docs_C=np.array([10, 10, 10]),
    num_tokens_C=np.array([700, 200, 100]),
    first_row_C=np.array([0, 10, 20]),
)


def recipe(**table: object) -> Recipe:
    return recipe_from_table({"strategy": "odm", **table}, "test")


def read_by(strategy: Odm, loss: dict[str, float], tokens: float = 1000.0) -> TrainingLosses:
    """Return what a round of training meets when each category has a known loss per token."""
    count = {name: share * tokens for name, share in strategy.shares["domain"].items()}
    return TrainingLosses("domain", {n: loss[n] * c for n, c in count.items()}, count)


def learned(strategy: Odm, evidence: TrainingLosses) -> Odm:
    found = strategy.updated(evidence).strategy
    assert isinstance(found, Odm)
    return found


def test_exploration_by_hand() -> None:
    assert exploration(0, 4) == 0.25
    assert exploration(1, 4) == 0.25  # √(ln 4 / 4) = 0.589
    assert exploration(100, 4) == pytest.approx(0.0588705)  # √(1.386294 / 400)
    assert exploration(1, 1) == 0.0  # one category has nothing to explore


def test_the_policy_by_hand() -> None:
    """t = 100 of two categories: ε = 0.0588705, before it 0.0591686; R̂ = 10 and 0."""
    assert exploration(100, 2) == pytest.approx(0.0588705)
    assert exploration(99, 2) == pytest.approx(0.0591671)
    odds = math.exp(0.591671)  # 1.80700
    first = (1 - 2 * 0.0588705) * odds / (1 + odds) + 0.0588705
    assert policy(np.array([10.0, 0.0]), 100) == pytest.approx([first, 1 - first], abs=1e-6)
    assert policy(np.array([1e6, 0.0, 0.0]), 1).tolist() == pytest.approx([1 / 3] * 3)
    assert policy(np.array([5.0]), 7).tolist() == [1.0]


def test_the_importance_weighted_reward_by_hand() -> None:
    """Of 1,000 tokens 200 are code, as π says; its loss is 3 nats each, so the reward is 3."""
    assert importance_weighted(600.0, 1000.0, 0.2) == pytest.approx(3.0)
    assert importance_weighted(600.0, 1000.0, 0.4) == pytest.approx(1.5)  # half of what π asks


def test_it_begins_with_equal_shares_of_what_there_is() -> None:
    found = Odm.start(CELLS, recipe())
    assert (found.needs, found.losses_of) == (Evidence.CATEGORY_LOSSES, "domain")
    assert found.shares == {"domain": pytest.approx({"web": 1 / 3, "code": 1 / 3, "books": 1 / 3})}


def test_an_update_by_hand() -> None:
    start = Odm.start(CELLS, recipe(odm={"smoothing": 0.75}))
    evidence = TrainingLosses("domain", {"web": 400.0, "code": 500.0}, {"web": 80.0, "code": 120.0})
    found = learned(start, evidence)
    # 0.25 · 400 / (200 / 3); nothing of books was read, which earns nothing.
    assert found.reward == pytest.approx({"web": 1.5, "code": 1.875, "books": 0.0})
    again = learned(found, evidence)
    assert again.reward["web"] == pytest.approx(0.75 * 1.5 + 1.5)
    assert again.round == 2


def test_it_comes_to_the_fixed_point_of_known_losses() -> None:
    """R̂ becomes the losses themselves, and the shares those of the paper's formula."""
    loss = {"web": 3.0, "code": 1.0, "books": 6.0}
    strategy = Odm.start(CELLS, recipe())
    for _ in range(400):
        strategy = learned(strategy, read_by(strategy, loss))
    assert strategy.reward == pytest.approx(loss, rel=1e-9)
    floor, before = math.sqrt(math.log(3) / (3 * 401)), math.sqrt(math.log(3) / (3 * 400))
    power = {name: math.exp(before * value) for name, value in loss.items()}
    whole = sum(power.values())
    expected = {n: (1 - 3 * floor) * p / whole + floor for n, p in power.items()}
    found = strategy.shares["domain"]
    assert found == pytest.approx(expected, rel=1e-9)
    assert found["books"] > found["web"] > found["code"] > floor


def test_a_noisy_round_moves_it_as_much_as_the_smoothing_says() -> None:
    """Which loss is largest is found under noise, and found again after it has changed."""
    rng = np.random.default_rng(0)
    strategy = Odm.start(CELLS, recipe())
    for loss in ({"web": 5.0, "code": 2.0, "books": 3.0}, {"web": 2.0, "code": 5.0, "books": 3.0}):
        for _ in range(80):
            noisy = {name: value * rng.uniform(0.7, 1.3) for name, value in loss.items()}
            strategy = learned(strategy, read_by(strategy, noisy))
        assert max(strategy.shares["domain"], key=strategy.shares["domain"].__getitem__) == max(
            loss, key=loss.__getitem__
        )


@pytest.mark.parametrize(
    ("evidence", "why"),
    [
        (TrainingLosses("domain", {}, {}), "no token had a loss"),
        (TrainingLosses("domain", {"web": math.nan}, {"web": 3.0}), "losses that are not finite"),
    ],
)
def test_evidence_that_says_nothing_is_refused(evidence: TrainingLosses, why: str) -> None:
    start = Odm.start(CELLS, recipe())
    found = start.updated(evidence)
    assert found.refused == why
    assert found.guards == {"refused": 1}
    assert found.notes == (f"the bandit keeps its shares: {why}.",)
    assert found.strategy == replace(start, round=1)


def test_what_does_not_fit_the_store() -> None:
    with pytest.raises(UsageError, match=r"odm\.agent: the store has no agent 'domian'; did you"):
        Odm.start(CELLS, recipe(odm={"agent": "domian"}))
    bounds = {"min_share": {"domain": {"web": 0.5}}}
    with pytest.raises(UsageError, match=r"selection\.min_share\.domain: the strategy 'odm' gives"):
        Odm.start(CELLS, recipe(selection=bounds))


def test_a_state_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "console.json"
    state = Odm.start(CELLS, recipe()).to_json()
    for change, said in (
        ({"reward": {"web": -1.0}}, r"reward\.web: found -1"),
        ({"reward": {}}, "it has no category"),
    ):
        write_sealed_json(path, state | change)
        with pytest.raises(DataError, match=rf"is not a state of the strategy 'odm': {said}"):
            read_strategy(path, recipe())
