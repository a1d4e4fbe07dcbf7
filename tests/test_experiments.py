"""scripts/experiments: every arm is a whole recipe that a store with its categories can train."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest
from toys import MakeStore

from mads.experiments.arms import Arms, check_arms, read_arms
from mads.recipe import to_toml
from mads.run.schedule import strategy_name
from mads.store.store import Store
from mads.strategies.published import DOMAINS

EXPERIMENTS = Path(__file__).parents[1] / "scripts" / "experiments"
FILES = sorted(path.name for path in EXPERIMENTS.glob("*.toml") if path.name != "base.toml")
QUALITY = ["[0,1)", "[1,2)", "[2,3)", "[3,4)", "[4,5]"]
TOPICS = ["Finance", "Health"]
BINS = ["q1", "q2", "q3", "q4", "q5"]


@pytest.fixture(scope="module")
def store(make_store: MakeStore) -> Store:
    """A store with the category names of base.toml, and documents of all of them."""
    agents = {"domain": list(DOMAINS), "quality": QUALITY, "topic": TOPICS, "perplexity": BINS}
    documents = [
        {
            "text": f"document {i}, of no interest.",
            **{name: own[i % len(own)] for name, own in agents.items()},
        }
        for i in range(70)
    ]
    sections = {
        name: {"backend": "column", "field": name, "categories": own}
        for name, own in agents.items()
    }
    return Store(make_store(documents, agents=sections))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The experiments with small tasks beside them, and the files that earlier runs leave."""
    root = Path(shutil.copytree(EXPERIMENTS, tmp_path / "scripts" / "experiments"))
    base = tomllib.loads((root / "base.toml").read_text())
    items = root / "items.jsonl"
    items.write_text(json.dumps({"context": "a", "continuation": " b"}) + "\n")
    for group in ("rewards", "evaluation"):
        for task in base[group]["tasks"].values():
            task |= {"path": str(items), "format": "cloze"}
    (root / "base.toml").write_text(to_toml(base))
    prior = {"domain": {"C4": 2.0}}
    for name in ("reproduce/prior.json", "baselines/bayes/seed-0/rounds/0004/console.json"):
        path = tmp_path / "build" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"weights": prior, "theta": {"domain": 0.5}}))
    return root


def read(folder: Path, name: str) -> Arms:
    return read_arms(folder / name)


@pytest.mark.parametrize("name", FILES)
def test_all_arms_can_be_trained(folder: Path, store: Store, name: str) -> None:
    arms = read(folder, name)
    check_arms(arms, store)
    assert arms.baseline == "natural"


@pytest.mark.parametrize("name", FILES)
def test_every_arm_says_what_it_is(name: str) -> None:
    """A comment stands above each arm, or above the group that it belongs to."""
    lines = (EXPERIMENTS / name).read_text().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("[arms."):
            before = lines[:number][::-1]
            gap = before.index("") if "" in before else len(before)
            assert any(text.startswith("#") for text in before[:gap]), line


def test_arms_that_differ_in_name_differ_in_what_they_do(folder: Path) -> None:
    recipes = read(folder, "baselines.toml").recipes
    assert len({repr(recipe) for recipe in recipes.values()}) == len(recipes)
    assert strategy_name(recipes["doremi"]) == "mixture"
    assert strategy_name(recipes["quality-3"]) == "random"
    assert recipes["q-d"].console.agents == ("quality", "domain")
