"""A run that begins with a matched prior: it acts in round 0, and going on needs no second look."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import planted
import pytest
from run.watching import Quiet

from mads.config import Recipe
from mads.errors import Interrupted, UsageError
from mads.layout import RunDir
from mads.recipe import recipe_from_table, to_table
from mads.rewards.matching import match_recipe
from mads.run import prior as module
from mads.run.loop import train
from mads.run.prior import with_prior
from mads.store.store import Store


def matched(folder: Path, strategy: str = "console") -> Recipe:
    recipe = planted.recipe(folder, steps=15)
    console = replace(recipe.console, start="matched")
    return replace(recipe, strategy=strategy, console=console)


def weights(run: Path, number: int) -> dict[str, dict[str, float]]:
    value = json.loads((run / "rounds" / f"{number:04d}" / "console.json").read_text())
    found: dict[str, dict[str, float]] = value["weights"]
    return found


@pytest.mark.parametrize("strategy", ["console", "fixed"])
def test_the_prior_acts_in_round_0(
    folder: Path, store: Store, tmp_path: Path, strategy: str
) -> None:
    watcher, recipe = Quiet(), matched(folder, strategy)
    train(store, tmp_path / "run", recipe, watcher)
    expected = match_recipe(store, recipe, lambda *_: None).weights
    assert weights(tmp_path / "run", 0) == expected
    assert expected["kind"]["useful"] > expected["kind"]["noise"]
    assert (weights(tmp_path / "run", 1) == expected) == (strategy == "fixed")
    (note,) = [note for note in watcher.notes if "the reference tasks' texts ask for" in note]
    assert "kind: useful" in note


def test_without_it_weights_are_equal(folder: Path, store: Store, tmp_path: Path) -> None:
    recipe = planted.recipe(folder, steps=15)
    assert with_prior(RunDir(tmp_path / "run"), store, recipe, pytest.fail) is recipe


def test_a_run_that_goes_on_is_not_matched_again_and_ends_the_same(
    folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = matched(folder)
    whole = train(store, tmp_path / "whole", recipe, Quiet())
    with pytest.raises(Interrupted):
        train(store, tmp_path / "run", recipe, Quiet(stop_after=3))
    with monkeypatch.context() as patch:
        patch.setattr(module, "match_recipe", lambda *_: pytest.fail("matched again"))
        again = train(store, tmp_path / "run", recipe, Quiet())
    assert replace(again, ledger=whole.ledger) == whole


def test_a_prior_of_the_users_and_a_matched_one_are_refused() -> None:
    for given in ({"prior": {"domain": {"C4": 2.0}}}, {"prior_file": "prior.json"}):
        with pytest.raises(UsageError, match=r'console\.start: "matched" finds a prior, but'):
            recipe_from_table({"console": {"start": "matched", **given}}, "test")
    found = recipe_from_table({"console": {"start": "matched"}}, "test")
    assert to_table(found)["console"]["start"] == "matched"
