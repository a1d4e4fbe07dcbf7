"""The planted world, and a tiny model that was trained on it."""

from __future__ import annotations

from pathlib import Path

import planted
import pytest
from rewards.tiny import World


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("planted")
    planted.build(path)
    return path


@pytest.fixture(scope="session")
def world(folder: Path) -> World:
    """Leave it as it is."""
    return World(folder)
