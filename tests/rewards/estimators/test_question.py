"""Losses of single documents."""

from __future__ import annotations

import pytest
from rewards.tiny import World

from mads.rewards.estimators.question import document_losses


def test_a_loss_is_a_documents_own_padding_or_not(world: World) -> None:
    """Mistake 12: the probe trained on padding."""
    windows = [world.windows[0][:9], world.windows[1][:31]]
    together = document_losses(world.lm, windows, batch_size=2)
    alone = [document_losses(world.lm, [window], batch_size=1)[0] for window in windows]
    assert together == pytest.approx(alone, rel=1e-5)
