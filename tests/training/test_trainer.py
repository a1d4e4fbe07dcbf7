"""Learning rates by hand, and what one optimizer step does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mads.config import ModelConfig, TrainingConfig
from mads.errors import DataError
from mads.training.data import padded_batch
from mads.training.model import TokenBatch, build_model
from mads.training.trainer import Trainer, learning_rate

CONFIG = TrainingConfig(steps=101, warmup=10, learning_rate=1.0, min_lr_ratio=0.1)
TINY = ModelConfig(hidden_size=16, num_layers=1, num_heads=2, ffn_size=32)


def test_warm_up_by_hand() -> None:
    assert [learning_rate(s, CONFIG) for s in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])


def test_cosine_by_hand() -> None:
    assert learning_rate(10, CONFIG) == pytest.approx(1.0)
    assert learning_rate(55, CONFIG) == pytest.approx(0.55)
    assert learning_rate(100, CONFIG) == pytest.approx(0.1)


def test_wsd_by_hand() -> None:
    config = replace(CONFIG, schedule="wsd", cooldown=20)
    assert learning_rate(80, config) == pytest.approx(1.0)
    assert learning_rate(90, config) == pytest.approx(0.55)
    assert learning_rate(100, config) == pytest.approx(0.1)


def test_constant() -> None:
    assert learning_rate(100, replace(CONFIG, schedule="constant")) == 1.0


def batch(size: int = 8) -> TokenBatch:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 100, (size, 12), generator=generator).numpy()
    return padded_batch(list(rows), [1] * size)


def trainer(config: TrainingConfig) -> Trainer:
    return Trainer(build_model(TINY, config, 100, seed=0), config, seed=0)


def test_steps_lower_the_loss() -> None:
    found = trainer(TrainingConfig(learning_rate=1e-2, warmup=1))
    losses = [found.step(step, batch()).loss for step in range(30)]
    assert losses[-1] < losses[0] - 1


def test_micro_batches_do_not_change_a_step() -> None:
    weights = []
    for size in (8, 3):
        found = trainer(TrainingConfig(micro_batch=size, warmup=0))
        result = found.step(0, batch())
        weights.append((result.loss, found.lm.parameters["lm_head.weight"].detach()))
    assert weights[0][0] == pytest.approx(weights[1][0], rel=1e-5)
    assert torch.allclose(weights[0][1], weights[1][1], atol=1e-5)


def test_second_moments_are_bias_corrected() -> None:
    found = trainer(TrainingConfig(warmup=0, grad_clip=0.0))
    assert found.second_moments() == {}
    name = "lm_head.weight"
    loss = found.lm.token_losses(batch()).sum() / (batch().labels_BT >= 0).sum()
    (gradient,) = torch.autograd.grad(loss, [found.lm.parameters[name]])
    found.step(0, batch())
    assert torch.allclose(found.second_moments()[name], gradient.square(), rtol=1e-3, atol=1e-9)


def test_a_loss_that_is_not_finite_stops_before_the_step() -> None:
    found = trainer(TrainingConfig())
    with torch.no_grad():
        found.lm.parameters["lm_head.weight"].fill_(float("inf"))
    before = found.lm.parameters["model.embed_tokens.weight"].detach().clone()
    with pytest.raises(DataError, match=r"step 7: the loss is nan.*learning_rate"):
        found.step(7, batch())
    assert torch.equal(before, found.lm.parameters["model.embed_tokens.weight"])
