"""A prior by matching: the optimum by hand, the pull that other tasks ask for, a planted corpus."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import planted
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mads.cli import app
from mads.config import Recipe, ReferenceConfig
from mads.console import initial_state
from mads.console.scores import cell_scores
from mads.errors import UsageError
from mads.recipe import load_recipe, to_table, to_toml
from mads.rewards.matching import (
    ONE_TASK_PULL,
    PRIOR_GRAMS,
    GramModels,
    choose_pull,
    fit_prior,
    fit_tilt,
    gain,
    gram_models,
)
from mads.store.store import Store
from mads.types import Cells

TWO = GramModels(
    np.array([[0.3, 0.7], [0.1, 0.9]]), np.array([0.5, 0.5]), np.array([[1.0, 0.0], [0.0, 1.0]])
)
FIRST = np.array([1.0, 0.0])  # a text of the first bucket's n-gram only


def test_the_optimum_by_hand() -> None:
    """Where the likelihood's slope is the pull's: 0.2 / (0.1 + 0.2 b) = pull · log(b / (1 − b))."""
    for pull in (2.0, 0.82, 0.3):
        found = fit_tilt(TWO, FIRST, pull)
        b = found.share_C[0]
        assert 0.2 / (0.1 + 0.2 * b) == pytest.approx(pull * math.log(b / (1 - b)), rel=1e-2)
        assert found.share_C.sum() == pytest.approx(1)
    assert fit_tilt(TWO, FIRST, 0.82).share_C[0] == pytest.approx(0.73, abs=0.01)
    assert fit_tilt(TWO, FIRST, 1e-6).share_C[0] > 0.99
    assert fit_tilt(TWO, FIRST, 1e6).share_C[0] == pytest.approx(0.5, abs=1e-4)


def test_the_gain_by_hand() -> None:
    # the mixture 3 : 1 gives 0.25, the corpus's own 0.2
    assert gain(TWO, np.array([0.75, 0.25]), FIRST) == pytest.approx(math.log(0.25 / 0.2))
    assert gain(TWO, TWO.corpus_C, FIRST) == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.02, 0.1, 0.5]))
def test_no_tilt_nearby_is_better(seed: int, pull: float) -> None:
    """Nor the corpus's own. Far away there may be others: tilts of cells are no convex set."""
    rng = np.random.default_rng(seed)
    cells, buckets, categories = 12, 30, 5
    member = np.zeros((cells, categories))
    member[np.arange(cells), rng.integers(0, 3, cells)] = 1
    member[np.arange(cells), 3 + rng.integers(0, 2, cells)] = 1
    models = GramModels(
        rng.dirichlet(np.full(buckets, 0.3), cells) + 1e-4, rng.dirichlet(np.ones(cells)), member
    )
    target = rng.dirichlet(np.full(buckets, 0.3))

    def worth(factor: np.ndarray) -> float:
        share = models.corpus_C * np.exp(member @ factor)
        share = share / share.sum()
        distance = float(share @ np.log(share / models.corpus_C))
        return float(target @ np.log(share @ models.probability_CB)) - pull * distance

    found = fit_tilt(models, target, pull).log_factor_P
    best = worth(found)
    assert best >= worth(np.zeros(categories))
    for _ in range(40):
        assert worth(found + rng.normal(0, 0.05, categories)) < best + 1e-4


def test_a_pull_is_chosen_by_the_tasks_that_are_left_out() -> None:
    """Two tasks that agree are believed; two that ask for opposite mixtures are not."""
    first, second = FIRST, np.array([0.0, 1.0])
    agree, gains = choose_pull(TWO, np.stack([first, first]), np.ones(2))
    assert agree == 0.01
    assert gains == pytest.approx([math.log(0.3 / 0.2)] * 2, rel=0.05)
    differ, losses = choose_pull(TWO, np.stack([first, second]), np.ones(2))
    assert differ == 0.5
    assert sum(losses) < 0
    assert choose_pull(TWO, first[None], np.ones(1)) == (ONE_TASK_PULL, [])


def test_a_cell_that_was_hardly_read_is_like_the_corpus() -> None:
    cells = Cells(
        ("kind",),
        {"kind": ("a", "b")},
        np.array([[0], [1]], np.uint16),
        np.array([10, 30]),
        np.array([10, 30]),
        np.array([0, 10]),
    )
    counts = np.array([[1e9, 0.0], [PRIOR_GRAMS, 0.0]]) + np.array([[0.0, 0.0], [0.0, PRIOR_GRAMS]])
    models = gram_models(cells, counts)
    assert models.corpus_C.tolist() == [0.25, 0.75]
    whole = 0.25 * 1 + 0.75 * 0.5
    assert models.probability_CB[0, 0] == pytest.approx(1, abs=1e-4)
    assert models.probability_CB[1, 0] == pytest.approx((2 * 0.5 + whole) / 3)
    assert models.probability_CB.sum(axis=1) == pytest.approx([1, 1])
    assert models.member_CP.tolist() == [[1, 0], [0, 1]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("matching")
    planted.build(path)
    return path


def recipe_with_two_tasks(folder: Path) -> Recipe:
    recipe = planted.recipe(folder, steps=20)
    second = folder / "second.jsonl"
    lines = [{"context": line, "continuation": " again"} for line in planted.USEFUL[:2]]
    second.write_text("\n".join(map(json.dumps, lines)) + "\n")
    tasks = {**recipe.rewards.tasks, "second": ReferenceConfig(path=str(second), num_examples=0)}
    return replace(recipe, rewards=replace(recipe.rewards, tasks=tasks))


def test_the_planted_language_is_found(folder: Path, tmp_path: Path) -> None:
    store, recipe = Store(folder / "store"), recipe_with_two_tasks(folder)
    seen: list[tuple[int, int]] = []
    out = tmp_path / "prior.json"
    found = fit_prior(store, recipe, out, lambda done, total: seen.append((done, total)))
    shares = {name: after / before for name, (before, after) in found.shares["kind"].items()}
    assert shares["useful"] > 1.5 > 1 > shares["neutral"]
    assert shares["useful"] > 2 * shares["noise"]
    coin = found.shares["coin"]
    assert all(0.8 < after / before < 1.25 for before, after in coin.values())
    assert all(value > 0.05 for value in (*found.gain.values(), *found.held_out.values()))
    assert seen[-1] == (found.documents, found.documents) == (len(seen), len(seen))
    again = fit_prior(store, recipe, out, lambda *_: None)
    assert again == found
    # the file is a prior, and what is read under it has the shares that were promised
    settings = load_recipe(None, [f"console.prior_file={out}"])
    state = initial_state(store.cells.categories, settings.console.prior)
    rate = np.exp(cell_scores(store.cells, state) / settings.selection.temperature)
    read = store.cells.num_tokens_C * rate
    kind = store.cells.category_CA[:, store.cells.agents.index("kind")]
    expected = [after for _, after in found.shares["kind"].values()]
    assert np.bincount(kind, read / read.sum()) == pytest.approx(expected)


def test_the_command_says_what_it_found_and_how_to_use_it(folder: Path, tmp_path: Path) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "prior.json"
    recipe.write_text(to_toml(to_table(planted.recipe(folder, steps=20))))
    command = ["fit", "prior", "--store", str(folder / "store"), "--recipe", str(recipe)]
    found = CliRunner().invoke(app, [*command, "--out", str(out)])
    assert found.exit_code == 0, found.output
    assert f"--set console.prior_file={out}" in "".join(found.output.split("\n"))
    assert "useful" in found.output
    as_json = CliRunner().invoke(app, [*command, "--out", str(out), "--json"])
    assert json.loads(as_json.stdout)["pull"] == ONE_TASK_PULL


def test_what_cannot_be_matched_or_overwritten_is_refused(folder: Path, tmp_path: Path) -> None:
    store, recipe = Store(folder / "store"), planted.recipe(folder, steps=20)
    none = replace(recipe, rewards=replace(recipe.rewards, tasks={}))
    with pytest.raises(UsageError, match=r"matched to reference tasks: add a \[rewards\.tasks"):
        fit_prior(store, none, tmp_path / "prior.json", lambda *_: None)
    for content in ("mine", "[1]", '{"weights": {}}'):
        mine = tmp_path / "mine.json"
        mine.write_text(content)
        with pytest.raises(UsageError, match=r"mine\.json is there and is no prior"):
            fit_prior(store, recipe, mine, lambda *_: None)
        assert mine.read_text() == content
