"""The commands below `mads fit` are there, each with what it needs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from agents.arrays import planted_texts
from command import mads
from toys import MakeRecipe, MakeStore, write_jsonl
from typer.testing import CliRunner

from mads.cli import app
from mads.recipe import load_recipe, to_table, to_toml
from mads.store.store import Store

Capture = pytest.CaptureFixture[str]
DOCUMENTS = [
    {"text": text, "meta": {"domain": "books"}, "quality": 1.0} for text in planted_texts(20)
]


def test_all_are_listed() -> None:
    found = CliRunner().invoke(app, ["fit", "--help"])
    assert found.exit_code == 0
    for command in ("prior", "influence", "cluster", "target"):
        assert command in found.output


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("prior", ("--store", "--out")),
        ("influence", ("--store", "--run", "--out")),
        ("cluster", ("--store", "--out")),
        ("target", ("--store", "--out")),
    ],
)
def test_what_a_command_needs_is_asked_for(command: str, needed: tuple[str, ...]) -> None:
    given = {"--store": "s", "--run": "r", "--out": "o"}
    for missing in needed:
        arguments = [word for name in needed if name != missing for word in (name, given[name])]
        found = CliRunner().invoke(app, ["fit", command, *arguments])
        assert found.exit_code == 2
        assert f"Missing option '{missing}'" in found.output


@pytest.fixture
def planted_store(make_store: MakeStore) -> Path:
    """A store of four vocabularies, in turn."""
    return make_store(DOCUMENTS)


def relabelled(
    capsys: Capture, tmp_path: Path, store: Path, recipe: dict[str, object], agent: object
) -> Store:
    """Annotate the store again with one more agent, as the command's last words say."""
    corpus = write_jsonl(tmp_path / "corpus.jsonl", DOCUMENTS)
    agents = recipe["agents"]
    assert isinstance(agents, dict)
    path = tmp_path / "more.toml"
    path.write_text(to_toml({**recipe, "agents": {**agents, "new": agent}}))
    code, _, words = mads(capsys, "annotate", corpus, "--out", store, "--recipe", path)
    assert code == 0, words
    return Store(store)


def test_clusters_are_fitted_shown_and_labelled_with(
    capsys: Capture, tmp_path: Path, planted_store: Path, toy_recipe: MakeRecipe
) -> None:
    out = tmp_path / "topics.safetensors"
    given = ("fit", "cluster", "--store", planted_store, "--out", out, "--clusters", 4)
    code, printed, _ = mads(capsys, *given, "--json")
    assert code == 0
    assert json.loads(printed)["sizes"] == {f"c000{k}": 20 for k in range(1, 5)}
    first = out.read_bytes()
    code, printed, words = mads(capsys, *given)
    assert (code, printed) == (0, "")
    assert out.read_bytes() == first
    assert "characteristic words" in words
    assert "read documents: 80 of 80" in words
    assert "largest cluster has 25.0% of the documents, 0 have none" in words
    assert f'[agents.topics]\n  backend = "cluster"\n  model = "{out}"' in words
    table = to_table(toy_recipe())
    agent = {"backend": "cluster", "model": str(out)}
    store = relabelled(capsys, tmp_path, planted_store, table, agent)
    label_N = store.memory("new", 0).category_N.reshape(20, 4)
    assert (label_N == label_N[0]).all()
    assert sorted(label_N[0].tolist()) == [0, 1, 2, 3]


def test_mistakes_of_fit_cluster(capsys: Capture, tmp_path: Path, planted_store: Path) -> None:
    given = ("fit", "cluster", "--store", planted_store, "--out")
    for arguments, exit_code, message in (
        ((tmp_path / "m.bin",), 2, "expected a file name that ends in .safetensors"),
        ((tmp_path / "m.safetensors", "--clusters", 1), 2, "--clusters: found 1, expected 2 to"),
        ((tmp_path / "m.safetensors",), 1, "80 different documents are too few for 256 clusters"),
    ):
        code, _, words = mads(capsys, *given, *arguments)
        assert code == exit_code
        assert message in words
    code, _, words = mads(capsys, "fit", "cluster", "--store", tmp_path / "no", "--out", "m")
    assert (code, "no does not exist" in words) == (2, True)


@pytest.fixture
def wanting(tmp_path: Path, toy_recipe: MakeRecipe) -> Path:
    """A recipe with one reference task, of the first vocabulary."""
    items = [{"context": "", "continuation": d["text"]} for d in DOCUMENTS[::4]]
    task = {"path": str(write_jsonl(tmp_path / "task.jsonl", items))}
    path = tmp_path / "wanting.toml"
    path.write_text(to_toml(to_table(toy_recipe(rewards={"tasks": {"physics": task}}))))
    return path


def test_a_target_is_fitted_shown_and_selects_by_importance(
    capsys: Capture, tmp_path: Path, planted_store: Path, toy_recipe: MakeRecipe, wanting: Path
) -> None:
    out = tmp_path / "new.safetensors"
    given = ("fit", "target", "--store", planted_store, "--recipe", wanting, "--out", out)
    code, printed, _ = mads(capsys, *given, "--bins", 4, "--total", "--json")
    assert code == 0
    found = json.loads(printed)
    assert (found["per_gram"], found["documents"], found["tasks"][0]["items"]) == (False, 80, 20)
    code, printed, words = mads(capsys, *given, "--bins", 4)
    assert (code, printed) == (0, "")
    assert "physics" in words
    assert f'[agents.new]\n  backend = "target"\n  model = "{out}"\n  quantiles = 4\n' in words
    assert f"--set strategy=fixed --set console.prior_file={out.with_suffix('.json')}" in words
    agent = {"backend": "target", "model": str(out), "quantiles": 4}
    table = to_table(toy_recipe())
    store = relabelled(capsys, tmp_path, planted_store, table, agent)
    label_N = store.memory("new", 0).category_N
    assert set(np.flatnonzero(label_N == 3).tolist()) == set(range(0, 80, 4))
    prior = load_recipe(None, [f"console.prior_file={out.with_suffix('.json')}"]).console.prior
    weights = list(prior["new"].values())
    assert weights == sorted(weights)
    assert len(set(weights)) == 4


def test_mistakes_of_fit_target(
    capsys: Capture, tmp_path: Path, planted_store: Path, wanting: Path
) -> None:
    given = ("fit", "target", "--store", planted_store, "--out")
    model = tmp_path / "m.safetensors"
    for arguments, exit_code, message in (
        ((model,), 2, "add a [rewards.tasks.NAME] section with a path"),
        ((model, "--recipe", wanting, "--method", "magic"), 2, "--method: 'magic' is not known"),
        ((tmp_path / "m.bin", "--recipe", wanting), 2, "a file name that ends in .safetensors"),
        ((model, "--recipe", wanting, "--bins", 99), 1, "80 documents are too few for 99 bins"),
    ):
        code, _, words = mads(capsys, *given, *arguments)
        assert code == exit_code
        assert message in words
    assert not model.exists()
