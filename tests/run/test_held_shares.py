"""Runs whose strategy holds shares: what their rounds read, and going on from mid-round."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import planted
import pytest
from command import mads
from run.watching import Quiet, facts

from mads.config import OdmConfig, Recipe
from mads.errors import Interrupted
from mads.run.feedback import learn
from mads.run.loop import train
from mads.run.reader import Run
from mads.run.records import StepRecord
from mads.selection.composition import shares
from mads.store.store import Store
from mads.strategies.odm import Odm

WANTED = {"useful": 0.5, "neutral": 0.0, "noise": 0.5}


def test_the_rounds_and_a_selection_by_hand_hold_the_mixture(
    folder: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = planted.recipe(folder, steps=12, first_update=6, update_every=3, part_tokens=16)
    given = {name: share for name, share in WANTED.items() if share}
    recipe = replace(recipe, strategy="mixture", mixture={"kind": given})
    recipe = replace(recipe, rewards=replace(recipe.rewards, tasks={}))
    result = train(store, tmp_path / "run", recipe, Quiet())
    assert (result.strategy, result.rounds, result.weights) == ("mixture", 3, {})
    for one in Run(tmp_path / "run").rounds:
        assert one.strategy.shares == {"kind": WANTED}
        table = one.selection(["cell", "num_tokens"])
        tokens_C = np.zeros(len(store.cells))
        np.add.at(tokens_C, table["cell"].to_numpy(), table["num_tokens"].to_numpy())
        assert shares(store.cells, tokens_C)["kind"] == pytest.approx(WANTED, abs=0.02)
    code, out, _ = mads(
        *(capsys, "select"),
        *("--store", str(store.dir.root), "--run", str(tmp_path / "run")),
        *("--tokens", "10K", "--out", str(tmp_path / "picked"), "--json"),
    )
    assert code == 0
    picked = json.loads(out)["composition"]["kind"]
    after = {name: both[1] for name, both in picked.items()}
    assert after == pytest.approx(WANTED, abs=0.1)  # whole documents
    assert after["neutral"] == 0


def by_odm(folder: Path) -> Recipe:
    """Return a recipe of 20 steps in rounds of 3, with checkpoints that lie within them."""
    recipe = planted.recipe(folder, steps=20, first_update=3, update_every=3, checkpoint_every=4)
    return replace(recipe, strategy="odm", odm=OdmConfig("kind", 0.5))


@pytest.fixture(scope="module")
def odm_run(folder: Path, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("odm") / "run"
    train(store, root, by_odm(folder), Quiet())
    return root


def test_a_bandit_learns_from_the_losses_that_training_meets(store: Store, odm_run: Path) -> None:
    run = Run(odm_run)
    strategies = [one.strategy for one in run.rounds]
    assert [one.round for one in strategies] == list(range(7))
    for record in run.steps:
        assert record.category_losses is not None
        losses, tokens = zip(*record.category_losses.values(), strict=True)
        # Together they are the step's own loss.
        assert sum(losses) / sum(tokens) == pytest.approx(record.loss, rel=1e-5)
    for number, one in enumerate(strategies[:-1]):
        steps = [record for record in run.steps if record.round == number]
        assert len(steps) == 3
        assert learn(one, steps).strategy == strategies[number + 1]
    last = strategies[-1]
    assert isinstance(last, Odm)
    shares_J, reward_J = list(last.shares["kind"].values()), list(last.reward.values())
    assert np.argsort(shares_J).tolist() == np.argsort(reward_J).tolist()
    assert 0 < min(shares_J) < max(shares_J) < 1


@pytest.mark.parametrize("stop_after", [2, 7, 12])
def test_it_goes_on_from_within_a_round_as_if_it_had_never_stopped(
    folder: Path, store: Store, tmp_path: Path, odm_run: Path, stop_after: int
) -> None:
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(store, out, by_odm(folder), Quiet(stop_after))
    train(store, out, by_odm(folder), Quiet())
    assert facts(out) == facts(odm_run)


def test_it_goes_on_after_it_was_killed_between_checkpoints(
    folder: Path, store: Store, tmp_path: Path, odm_run: Path
) -> None:
    """Steps 8 to 10 were taken and are taken again: of the half round before 8, metrics tell."""

    class Killed(Quiet):
        def step(self, record: StepRecord) -> None:
            super().step(record)
            if record.step == 10:
                raise KeyboardInterrupt

    out, again = tmp_path / "run", Quiet()
    with pytest.raises(KeyboardInterrupt):
        train(store, out, by_odm(folder), Killed())
    train(store, out, by_odm(folder), again)
    assert again.steps[0].step == 8
    assert facts(out) == facts(odm_run)
