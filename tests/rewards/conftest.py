"""A tiny model that was trained in the planted world."""

from __future__ import annotations

from pathlib import Path

import pytest
from rewards.tiny import World


@pytest.fixture(scope="session")
def world(folder: Path) -> World:
    """Leave it as it is."""
    return World(folder)
