"""The random projection keeps what it must."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mads.rewards.estimators.projected import CountSketch, influence


def test_the_sketch_keeps_inner_products() -> None:
    generator = torch.Generator().manual_seed(0)
    one = {"a": torch.randn(300, 40, generator=generator), "b": torch.randn(7, generator=generator)}
    two = {name: part + torch.randn(part.shape, generator=generator) for name, part in one.items()}
    true = sum(float((one[n] * two[n]).sum()) for n in one)
    found = [float(s(one) @ s(two)) for s in (CountSketch(one, 4096, seed) for seed in range(20))]
    assert np.mean(found) == pytest.approx(true, rel=0.01)
    assert np.std(found) < 0.05 * true
    again = CountSketch(one, 4096, 0)(one)
    assert torch.equal(again, CountSketch(one, 4096, 0)(one))
    assert not torch.equal(again, CountSketch(one, 4096, 1)(one))


def test_influence_by_the_inverse_in_gradient_space() -> None:
    """The dual form equals the paper's: g_ref (Phi' Phi / N + lambda I)^-1 g_i."""
    rng = np.random.default_rng(0)
    phi, target = rng.normal(size=(6, 9)), rng.normal(size=(2, 9))
    damping = 0.1 * float(np.trace(phi @ phi.T)) / 6
    inverse = np.linalg.inv(phi.T @ phi / 6 + damping * np.eye(9))
    assert influence(phi, target, 0.1) == pytest.approx(target @ inverse @ phi.T)
