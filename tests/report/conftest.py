"""A run of the planted world, and a comparison."""

from __future__ import annotations

from pathlib import Path

import planted
import pytest
from report.compared import make_arms, train_all
from report.silent import Silent

from mads.experiments.arms import Arms
from mads.run.loop import train
from mads.store.store import Store


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("planted")
    store = Store(planted.build(path))
    train(store, path / "run", planted.recipe(path, steps=20), Silent())
    return path


@pytest.fixture(scope="session")
def arms(folder: Path) -> Arms:
    return make_arms(folder)


@pytest.fixture(scope="session")
def root(folder: Path, arms: Arms) -> Path:
    """A comparison whose runs have ended."""
    return train_all(folder, arms)
