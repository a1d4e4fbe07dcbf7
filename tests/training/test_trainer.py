"""Learning rates by hand, and what one optimizer step does."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config

from mads.config import ModelConfig, TrainingConfig
from mads.training.build import build_model
from mads.training.data import padded_batch
from mads.training.model import NO_LABEL, LanguageModel, TokenBatch
from mads.training.task_loss import BatchedTask, task_loss
from mads.training.trainer import Trainer, adamw_step, learning_rate, sums_by_group

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
    assert found.optimizer_state(0).second_moments() == {}
    name = "lm_head.weight"
    loss = found.lm.token_losses(batch()).sum() / (batch().labels_BT >= 0).sum()
    (gradient,) = torch.autograd.grad(loss, [found.lm.parameters[name]])
    found.step(0, batch())
    assert torch.allclose(
        found.optimizer_state(0).second_moments()[name], gradient.square(), rtol=1e-3, atol=1e-9
    )


def test_a_step_without_a_finite_loss_or_gradient_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing of model and optimizer changes, and the next step is as if it had never been."""
    found, other = trainer(TrainingConfig()), trainer(TrainingConfig())
    found.step(6, batch())
    other.step(6, batch())
    before = {name: p.detach().clone() for name, p in found.lm.parameters.items()}
    loss_of = LanguageModel.token_losses
    for bad in (math.nan, math.inf):
        with monkeypatch.context() as patch:
            patch.setattr(
                LanguageModel, "token_losses", lambda lm, one, by=bad: loss_of(lm, one) * by
            )
            result = found.step(7, batch())
        assert not result.taken
        assert not math.isfinite(result.loss)
        assert all(torch.equal(before[n], p) for n, p in found.lm.parameters.items())
        assert all(p.grad is None for p in found.lm.parameters.values())
    one, two = found.step(8, batch()), other.step(8, batch())
    assert one.taken
    assert (one.loss, one.grad_norm) == (two.loss, two.grad_norm)


def gradients(found: Trainer) -> dict[str, torch.Tensor]:
    """Return the gradient of the mean loss of ``batch()``."""
    loss = found.lm.token_losses(batch()).sum() / (batch().labels_BT >= 0).sum()
    parts = torch.autograd.grad(loss, list(found.lm.parameters.values()))
    return dict(zip(found.lm.parameters, parts, strict=True))


@pytest.mark.parametrize(("clip", "is_clipped"), [(0.01, True), (1e3, False), (0.0, False)])
def test_clipping_by_hand(clip: float, is_clipped: bool) -> None:
    found = trainer(TrainingConfig(warmup=0, grad_clip=clip))
    parts = gradients(found)
    norm = math.sqrt(sum(float(part.square().sum()) for part in parts.values()))
    assert norm > 0.1
    result = found.step(0, batch())
    assert result.grad_norm == pytest.approx(norm, rel=1e-4)
    scale = clip / norm if is_clipped else 1.0
    for name, moment in found.optimizer_state(0).second_moments().items():
        expected = (scale * parts[name]).square()
        assert torch.allclose(moment, expected, rtol=1e-3, atol=1e-6 * float(expected.max())), name


def test_weight_decay_is_for_matrices_only() -> None:
    config = TrainingConfig(warmup=0, learning_rate=1e-2, weight_decay=0.0)
    plain, decayed = trainer(config), trainer(replace(config, weight_decay=0.5))
    before = {name: p.detach().clone() for name, p in plain.lm.parameters.items()}
    for found in (plain, decayed):
        found.step(0, batch())
    kinds = set()
    for name, start in before.items():
        difference = plain.lm.parameters[name] - decayed.lm.parameters[name]
        expected = 1e-2 * 0.5 * start if start.ndim >= 2 else torch.zeros_like(start)
        assert torch.allclose(difference, expected, atol=1e-6), name
        kinds.add(start.ndim)
    assert kinds == {1, 2}


@pytest.fixture
def dropout(tmp_path: Path) -> ModelConfig:
    """A model with dropout, as a folder of Hugging Face holds it."""
    shape: dict[str, Any] = {
        "vocab_size": 100,
        "n_positions": 256,
        "n_embd": 16,
        "n_layer": 1,
        "n_head": 2,
    }
    GPT2Config(**shape, bos_token_id=0, eos_token_id=0).save_pretrained(tmp_path)
    return ModelConfig(hf=str(tmp_path), pretrained=False)


def test_dropout_depends_on_the_seed_and_the_step_only(dropout: ModelConfig) -> None:
    losses = []
    for disturbed, seed, step in ((1, 0, 3), (2, 0, 3), (1, 0, 4), (1, 1, 3)):
        config = TrainingConfig(warmup=0)
        found = Trainer(build_model(dropout, config, 100, seed=0), config, seed=seed)
        torch.manual_seed(disturbed)
        losses.append(found.step(step, batch()).loss)
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_feedback_is_measured_without_dropout(dropout: ModelConfig) -> None:
    lm = build_model(dropout, TrainingConfig(), 100, seed=0)
    lm.model.train()
    task = BatchedTask("t", 1.0, (batch(),))
    assert task_loss(lm, task) == task_loss(lm, task)
    assert lm.model.training
    noisy = [float(lm.token_losses(batch()).detach().sum()) for _ in range(2)]
    assert noisy[0] != noisy[1]


def test_one_adamw_step_is_that_of_torch() -> None:
    """The functional step, with moments and without, against the optimizer's own."""
    config = TrainingConfig(learning_rate=1e-2, warmup=1, grad_clip=0.0, weight_decay=0.1)
    for steps in (0, 3):
        found = trainer(config)
        for number in range(steps):
            found.step(number, batch())
        state = found.optimizer_state(steps)
        before = {name: p.detach().clone() for name, p in found.lm.parameters.items()}
        loss = found.lm.token_losses(batch(4)).sum() / (4 * 11)
        gradients = found.lm.gradients(loss)
        expected = {n: adamw_step(before[n], gradients[n], state, n) for n in before}
        found.step(steps, batch(4))
        for name, parameter in found.lm.parameters.items():
            assert torch.allclose(parameter, expected[name], rtol=1e-5, atol=1e-6), name


def grouped(whole: TokenBatch, num_groups: int) -> TokenBatch:
    """Return a batch whose labels are in groups at random."""
    generator = torch.Generator().manual_seed(1)
    groups = torch.randint(0, num_groups, whole.labels_BT.shape, generator=generator)
    return replace(whole, groups_BT=groups)


def test_sums_by_group_are_those_of_a_loop() -> None:
    one = grouped(batch(), 3)
    assert one.groups_BT is not None
    loss_BT = torch.rand(one.labels_BT.shape, generator=torch.Generator().manual_seed(2))
    expected = [[0.0] * 3, [0.0] * 3]
    for row in range(8):
        for place in range(12):
            if one.labels_BT[row, place] != NO_LABEL:
                group = int(one.groups_BT[row, place])
                expected[0][group] += float(loss_BT[row, place])
                expected[1][group] += 1
    found = sums_by_group(loss_BT, one, 3)
    assert found[0].tolist() == pytest.approx(expected[0])
    assert found[1].tolist() == expected[1]


def test_asking_for_groups_changes_nothing_of_a_step() -> None:
    """And the groups' losses add up to the step's, whatever the micro-batches."""
    results = []
    for size, num_groups in ((8, 0), (8, 3), (3, 3)):
        found = trainer(TrainingConfig(micro_batch=size, warmup=0))
        result = found.step(0, grouped(batch(), 3), num_groups)
        results.append((result, found.lm.parameters["lm_head.weight"].detach()))
    (plain, weights), (asked, same), (smaller, _) = results
    assert torch.equal(weights, same)
    assert (plain.loss, plain.grad_norm) == (asked.loss, asked.grad_norm)
    assert plain.loss_G.shape == plain.tokens_G.shape == (0,)
    assert asked.tokens_G.sum() == 8 * 11
    assert asked.loss_G.sum() / asked.tokens_G.sum() == pytest.approx(asked.loss, rel=1e-6)
    assert smaller.tokens_G.tolist() == asked.tokens_G.tolist()
    assert smaller.loss_G.tolist() == pytest.approx(asked.loss_G.tolist(), rel=1e-5)
