"""The central difference against exact gradients."""

from __future__ import annotations

import pytest
from rewards.tiny import World

from mads.rewards.estimators.question import relative_error


def test_forward_agrees_with_gradient(world: World) -> None:
    found, true = world.rewards("forward"), world.rewards("gradient")
    assert relative_error(found.reward_DN, true.reward_DN) < 1e-3
    assert found.loss_N == pytest.approx(true.loss_N, rel=1e-4)
