"""A run that reads a given mixture: what its rounds hold, and what `mads select` then takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import planted
import pytest
from command import mads
from run.watching import Quiet

from mads.run.loop import train
from mads.run.reader import Run
from mads.selection.composition import shares
from mads.store.store import Store

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
