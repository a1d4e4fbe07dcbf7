"""The oracle, against a derivative taken by hand."""

from __future__ import annotations

import pytest
import torch
from rewards.tiny import World

from mads.training.data import padded_batch


def test_it_is_the_inner_product_of_the_gradient_and_the_direction(world: World) -> None:
    found = world.rewards("gradient", world.windows[:3])
    (direction,) = world.reference().directions
    for n, window in enumerate(world.windows[:3]):
        loss = world.lm.token_losses(padded_batch([window], [1])).sum() / (len(window) - 1)
        parts = torch.autograd.grad(loss, list(world.lm.parameters.values()))
        names = world.lm.parameters
        true = sum(
            float((part * direction.unit[name]).sum())
            for name, part in zip(names, parts, strict=True)
        )
        assert found.reward_DN[0, n] == pytest.approx(true, rel=1e-3, abs=1e-6)
        assert found.loss_N[n] == pytest.approx(loss.item(), rel=1e-5)
