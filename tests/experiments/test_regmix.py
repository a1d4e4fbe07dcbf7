"""A prior by regression on proxies: the planted answer, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import planted
import pytest
from run.watching import Quiet
from typer.testing import CliRunner

from mads.cli import app
from mads.config import Recipe
from mads.errors import UsageError
from mads.experiments import regmix
from mads.experiments.arms import Arms
from mads.experiments.regmix import fit_regmix, random_tilts, standardised_mean
from mads.layout import ComparisonDir
from mads.recipe import load_recipe, to_table, to_toml
from mads.run.loop import train
from mads.run.result import whole_result
from mads.store.store import Store
from mads.types import Report

TRAINED: list[str] = []


def in_this_process(
    folder: ComparisonDir,
    store: Store,
    arms: Arms,
    seeds: Sequence[int],
    limit: int,
    report: Report,
) -> None:
    """Train what ``train_arms`` would, without starting processes."""
    for seed in seeds:
        for arm in arms.recipes:
            run = folder.run(arm, seed)
            if whole_result(run.result) is None:
                TRAINED.append(arm)
                train(store, run.root, arms.recipe(arm, seed), Quiet())
            report(f"{arm}, seed {seed}", 12, 12)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    TRAINED.clear()
    monkeypatch.setattr(regmix, "train_arms", in_this_process)
    monkeypatch.setattr(regmix, "DISTANCES", (0.05, 0.4))


@pytest.fixture
def recipe(folder: Path) -> Recipe:
    return planted.recipe(folder, steps=12)


@pytest.mark.usefixtures("fast")
def test_the_planted_answer_is_found_and_the_same_call_trains_nothing_again(
    store: Store, recipe: Recipe, tmp_path: Path
) -> None:
    told: list[tuple[str, int, int]] = []
    out, work = tmp_path / "prior.json", tmp_path / "work"

    def fit() -> regmix.Fitted:
        return fit_regmix(store, recipe, out, work, 10, 1, lambda *one: told.append(one))

    found = fit()
    before, after = found.shares["kind"]["useful"]
    assert after > 1.5 * before
    assert found.shares["kind"]["noise"][1] < found.shares["kind"]["noise"][0]
    assert found.spearman > 0.5
    assert [one.kl for one in found.line] == [0.05, 0.4]
    assert found.kl == pytest.approx(0.4, rel=1e-3)  # so much of the corpus is noise
    assert all(np.mean(one.losses) < found.corpus for one in found.line)
    assert len(TRAINED) == 11 + 2 * 2
    assert told[-1] == ("line-10, steps", 4 * 12, 4 * 12)
    assert not list(work.rglob("*.safetensors"))  # proxies leave no checkpoints behind
    TRAINED.clear()
    assert fit() == found
    assert not TRAINED
    prior = load_recipe(None, [f"console.prior_file={out}"]).console.prior
    assert prior == found.weights
    assert json.loads(out.read_text())["method"] == "regmix"


def test_random_mixtures_are_the_seeds(store: Store) -> None:
    one, two = random_tilts(store.cells, 200, 1), random_tilts(store.cells, 3, 1)
    assert all((one[name] == tilt).all() for name, tilt in two.items())
    total = np.stack(list(one.values()))
    assert total.std() * len(store.cells.agents) ** 0.5 == pytest.approx(1, abs=0.1)
    other = random_tilts(store.cells, 3, 2)
    assert not any((other[name] == tilt).all() for name, tilt in two.items())


def test_tasks_count_in_their_own_standard_deviations() -> None:
    losses = np.array([[1.0, 100.0], [3.0, 300.0], [5.0, 200.0]])
    # both have deviations of ±1.2247 and 0; the second's weight is three times the first's
    found = standardised_mean(losses, np.array([1.0, 3.0]))
    assert found == pytest.approx(np.array([-1.2247, 0.9186, 0.3062]), abs=1e-4)


def test_what_is_refused(store: Store, recipe: Recipe, tmp_path: Path) -> None:
    def fit(settings: Recipe, out: Path, proxies: int = 8) -> None:
        fit_regmix(store, settings, out, tmp_path / "work", proxies, 1, lambda *_: None)

    none = replace(recipe, rewards=replace(recipe.rewards, tasks={}))
    with pytest.raises(UsageError, match=r"fitted to reference tasks: add a \[rewards\.tasks"):
        fit(none, tmp_path / "prior.json")
    with pytest.raises(UsageError, match="--proxies: found 3, expected 8 or more"):
        fit(recipe, tmp_path / "prior.json", 3)
    mine = tmp_path / "mine.json"
    mine.write_text("{}")
    with pytest.raises(UsageError, match=r"mine\.json is there and is no prior"):
        fit(recipe, mine)
    assert not (tmp_path / "work").exists()


@pytest.mark.usefixtures("fast")
def test_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "prior.json"
    recipe.write_text(to_toml(to_table(planted.recipe(folder, steps=12))))
    command = ["fit", "prior", "--store", str(folder / "store"), "--recipe", str(recipe)]
    command += ["--out", str(out), "--proxies", "8"]
    found = CliRunner().invoke(app, [*command, "--method", "guess"])
    assert isinstance(found.exception, UsageError)
    assert "--method: 'guess' is unknown; expected one of matching, regmix" in str(found.exception)
    small = ["--set", "training.steps=12", "--set", "model.hidden_size=32"]
    found = CliRunner().invoke(app, [*command, "--method", "regmix", *small])
    assert found.exit_code == 0, found.output
    assert "Proxies along the line" in found.output
    assert "fitted to 9 proxies" in found.output
    assert (tmp_path / "prior.proxies" / "line-8" / "arms.toml").is_file()
