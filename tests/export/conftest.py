"""A store of the planted world, and a console state for it."""

from __future__ import annotations

import json
from pathlib import Path

import planted
import pytest

from mads.store.store import Store


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Do not change it."""
    return planted.build(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="session")
def console(store: Path) -> Path:
    """A console state file that prefers useful documents."""
    cells = Store(store).cells
    weights = {agent: dict.fromkeys(names, 1.0) for agent, names in cells.categories.items()}
    weights["kind"]["useful"] = 1.5
    path = store.parent / "console.json"
    state = {"round": 4, "theta": dict.fromkeys(weights, 1 / 3), "weights": weights}
    path.write_text(json.dumps(state))
    return path
