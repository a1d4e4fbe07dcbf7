"""A run of the planted world."""

from __future__ import annotations

from pathlib import Path

import planted
import pytest
from report.silent import Silent

from mads.run.loop import train
from mads.store.store import Store


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("planted")
    store = Store(planted.build(path))
    train(store, path / "run", planted.recipe(path, steps=20), Silent())
    return path
