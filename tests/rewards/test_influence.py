"""Learned influence finds the planted answer, and its memory joins the store's others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import planted
import pytest
from run.watching import Quiet
from typer.testing import CliRunner

from mads.agents.fasttext_agent import FastTextConfig
from mads.annotate.annotate import annotate
from mads.cli import app
from mads.errors import DataError, UsageError
from mads.rewards.influence import fit_influence, mean_ranks
from mads.rewards.ranks import ranks
from mads.run.loop import train
from mads.run.reader import Run
from mads.store.store import Store
from mads.types import MeasuredRound


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("influence")
    planted.build(path)
    recipe = planted.recipe(path, steps=25, first_update=15)
    recipe = replace(recipe, rewards=replace(recipe.rewards, probes_per_category=60))
    train(Store(path / "store"), path / "run", recipe, Quiet())
    return path


def rewards_of(folder: Path) -> list[MeasuredRound]:
    return Run(folder / "run").latest_rewards(3)


def test_ranks_by_hand() -> None:
    assert ranks(np.array([5.0, 1.0, 5.0, 9.0])).tolist() == [0.5, 0.125, 0.5, 0.875]


def test_the_mean_of_ranks_by_hand() -> None:
    """Each round is ranked by itself: its unit does not matter."""
    docs = np.array([7, 8], np.uint64)
    one = MeasuredRound(1, docs, np.array([0.5, 0.1]))
    two = MeasuredRound(2, docs[:1], np.array([1e-9]))
    doc_N, rank_N = mean_ranks([one, two])
    assert doc_N.tolist() == [7, 8]
    assert rank_N.tolist() == [(0.75 + 0.5) / 2, 0.25]


def test_it_learns_which_documents_help(folder: Path, tmp_path: Path) -> None:
    store = Store(folder / "store")
    found = fit_influence(
        store, Run(folder / "run").latest_rewards(3), "a run", tmp_path / "influence.bin"
    )
    assert found.rounds == (1, 2)
    assert found.documents + found.held_out <= 180
    assert found.spearman > 0.5
    again = fit_influence(
        store, Run(folder / "run").latest_rewards(3), "a run", tmp_path / "again.bin"
    )
    first = (tmp_path / "influence.bin").read_bytes()
    assert first == (tmp_path / "again.bin").read_bytes()
    assert again.spearman == found.spearman


def test_its_memory_joins_the_others(folder: Path, tmp_path: Path) -> None:
    planted.build(tmp_path)
    recipe = planted.recipe(tmp_path)
    store = Store(folder / "store")
    fit_influence(
        store, Run(folder / "run").latest_rewards(3), "a run", tmp_path / "influence.bin", bins=3
    )
    before = {p.name: p.read_bytes() for p in (tmp_path / "store/memories/kind").iterdir()}
    agents = {
        **recipe.agents,
        "influence": FastTextConfig(backend="fasttext", model=str(tmp_path / "influence.bin")),
    }
    annotate(
        [tmp_path / "corpus.jsonl"],
        tmp_path / "store",
        replace(recipe, agents=agents),
        lambda what, done, total: None,
    )
    cells = Store(tmp_path / "store").cells
    assert cells.categories["influence"] == ("r1", "r2", "r3")
    after = {p.name: p.read_bytes() for p in (tmp_path / "store/memories/kind").iterdir()}
    assert after == before
    kind, guess = (cells.category_CA[:, cells.agents.index(a)] for a in ("kind", "influence"))
    mean = [np.average(guess[kind == k], weights=cells.num_docs_C[kind == k]) for k in (0, 1, 2)]
    assert mean[0] > max(mean[1], mean[2])  # useful documents have the highest guesses


def test_refusals(folder: Path, tmp_path: Path) -> None:
    store = Store(folder / "store")
    with pytest.raises(UsageError, match=r"--out: found .*m.ftz', expected a file name that ends"):
        fit_influence(store, rewards_of(folder), "a run", tmp_path / "m.ftz")
    recipe = planted.recipe(folder, steps=10)
    recipe = replace(recipe, rewards=replace(recipe.rewards, probes_per_category=2))
    train(store, tmp_path / "few", recipe, Quiet())
    with pytest.raises(DataError, match="probed documents are too few to learn from, expected 100"):
        fit_influence(store, Run(tmp_path / "few").latest_rewards(3), "a run", tmp_path / "m.bin")


def test_the_command(folder: Path, tmp_path: Path) -> None:
    arguments = ["--store", str(folder / "store"), "--run", str(folder / "run")]
    out = str(tmp_path / "influence.bin")
    result = CliRunner().invoke(app, ["fit", "influence", *arguments, "--out", out, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["spearman"] > 0.5
    spoken = CliRunner().invoke(app, ["fit", "influence", *arguments, "--out", out])
    assert "[agents.influence]" in spoken.output
    assert f'model = "{out}"' in spoken.output
