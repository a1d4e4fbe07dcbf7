"""Small corpora and stores for all tests. Agents read columns, so nothing has to be trained."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hypothesis
import planted
import pytest
from toys import Document, MakeRecipe, MakeStore, write_jsonl

from mads.annotate.annotate import annotate
from mads.config import Recipe
from mads.recipe import recipe_from_table
from mads.store.store import Store

# No time limits in tests: machines are noisy.
hypothesis.settings.register_profile("mads", deadline=None)
hypothesis.settings.load_profile("mads")

WORDS = ["the", "of", "and", "river", "stone", "engine", "copper", "garden", "winter", "seven"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted world. Copy what stands in it before changing anything."""
    path = tmp_path_factory.mktemp("planted")
    planted.build(path)
    return path


@pytest.fixture(scope="session")
def store(folder: Path) -> Store:
    """The planted world's store."""
    return Store(folder / "store")


@pytest.fixture(scope="session")
def finished(folder: Path, store: Store) -> Path:
    """A run of 20 steps in the planted world: rounds 0 to 3, checkpoints after 10 and 20."""
    from run.watching import Quiet  # with torch, which few tests need

    from mads.run.loop import train

    train(store, folder / "finished", planted.recipe(folder, steps=20), Quiet())
    return folder / "finished"


@pytest.fixture(scope="session")
def toy_recipe() -> MakeRecipe:
    """Return a function: sections in keywords replace those of the toy recipe."""

    def build(**sections: Any) -> Recipe:
        table: dict[str, Any] = {
            "corpus": {"executor": "inline", "shard_bytes": 1},  # one shard for each file
            "tokenizer": {"vocab_size": 400},
            "agents": {
                "domain": {
                    "backend": "column",
                    "field": "meta.domain",
                    "categories": ["books", "code", "news"],
                },
                "quality": {
                    "backend": "column",
                    "field": "quality",
                    "edges": [1, 2, 3, 4],
                    "categories": ["0-1", "1-2", "2-3", "3-4", "4-5"],
                },
            },
        }
        return recipe_from_table(table | sections, "toy recipe")

    return build


@pytest.fixture(scope="session")
def make_store(tmp_path_factory: pytest.TempPathFactory, toy_recipe: MakeRecipe) -> MakeStore:
    """Return a function: documents, and sections that replace those of the toy recipe -> store."""

    def make(documents: Sequence[Document], **sections: Any) -> Path:
        folder = tmp_path_factory.mktemp("made")
        corpus = write_jsonl(folder / "corpus.jsonl", documents)
        annotate([corpus], folder / "store", toy_recipe(**sections), lambda *_: None)
        return folder / "store"

    return make


@pytest.fixture(scope="session")
def toy_documents() -> list[Document]:
    """300 documents: ``text``, ``meta.domain`` (three of them) and ``quality`` (0 to 5)."""
    rng = random.Random(7)
    domains = ("books", "code", "news")
    return [
        {
            "text": " ".join(rng.choices(WORDS, k=rng.randint(5, 60))) + f" {i}.",
            "meta": {"domain": rng.choices(domains, (5, 2, 3))[0]},
            "quality": round(rng.uniform(0, 5), 2),
        }
        for i in range(300)
    ]


@pytest.fixture(scope="session")
def toy_corpus(tmp_path_factory: pytest.TempPathFactory, toy_documents: list[Document]) -> Path:
    """A folder of three files with the toy documents, in their order."""
    folder = tmp_path_factory.mktemp("toy-corpus")
    for i, size in enumerate((150, 100, 50)):
        first = (0, 150, 250)[i]
        write_jsonl(folder / f"part-{i}.jsonl", toy_documents[first : first + size])
    return folder


@pytest.fixture(scope="session")
def toy_store(
    tmp_path_factory: pytest.TempPathFactory, toy_corpus: Path, toy_recipe: MakeRecipe
) -> Path:
    """The store of the toy corpus. Copy it before changing anything."""
    out = tmp_path_factory.mktemp("toy") / "store"
    annotate([toy_corpus], out, toy_recipe(), lambda *_: None)
    return out
