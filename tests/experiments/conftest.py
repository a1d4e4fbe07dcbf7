"""The planted world. Copy what stands in it before changing anything."""

from __future__ import annotations

from pathlib import Path

import planted
import pytest
from run.watching import Quiet

from mads.run.loop import train
from mads.store.store import Store


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("planted")
    planted.build(path)
    return path


@pytest.fixture(scope="session")
def store(folder: Path) -> Store:
    return Store(folder / "store")


@pytest.fixture(scope="session")
def finished(folder: Path, store: Store) -> Path:
    """A run of 20 steps: rounds 0 to 3, checkpoints after 10 and 20."""
    train(store, folder / "finished", planted.recipe(folder, steps=20), Quiet())
    return folder / "finished"
