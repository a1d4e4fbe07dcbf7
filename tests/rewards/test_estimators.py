"""Estimators against each other, against the truth, and what they must leave alone."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import planted
import pytest
import torch

from mads.config import RewardsConfig
from mads.errors import DataError
from mads.memory.store import Store
from mads.rewards.direction import direction, norm, preconditioned, reference_gradient
from mads.rewards.estimators import ESTIMATORS, document_losses, gradient, relative_error
from mads.rewards.measure import _window, measure
from mads.rewards.tasks import Task, make_task, task_loss
from mads.training.data import RoundData, padded_batch
from mads.training.model import LanguageModel, build_model
from mads.training.trainer import Trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("planted")
    planted.build(path)
    return path


class World:
    """A trained tiny model, its store and its reference task."""

    def __init__(self, folder: Path, steps: int = 12) -> None:
        self.recipe = planted.recipe(folder, steps=40)
        self.store = Store(folder / "store")
        training = self.recipe.training
        vocab = self.store.tokenizer.vocab_size
        self.lm = build_model(self.recipe.model, training, vocab, seed=1)
        self.trainer = Trainer(self.lm, training, seed=2)
        docs = self.store.order_docs(np.arange(self.store.manifest["index"]["docs"]))
        sizes = np.array([len(self._tokens(int(doc))) for doc in docs])
        num_sequences = int(sizes.sum()) // training.context
        self.data = RoundData(self.store, docs, sizes, num_sequences, training.context, seed=3)
        for step in range(steps):
            self.step(step)
        (name, config), *_ = self.recipe.rewards.tasks.items()
        self.task: Task = make_task(name, config, self.store.tokenizer, 32, 4, seed=0)
        self.windows = [self._tokens(int(doc))[:32] for doc in docs[::9]]

    def _tokens(self, doc: int) -> np.ndarray:
        reader, row = self.store.tokens(doc)
        return reader.row(row)

    def step(self, number: int) -> float:
        return self.trainer.step(number, self.data.batch(number, 16, document_mask=True)).loss

    def direction(self) -> dict[str, torch.Tensor]:
        return direction(self.lm, [self.task], self.trainer.second_moments(), 0.1)[0]


@pytest.fixture(scope="module")
def world(folder: Path) -> World:
    return World(folder)


def test_forward_agrees_with_gradient(world: World) -> None:
    vector, config = world.direction(), RewardsConfig()
    found = ESTIMATORS["forward"](world.lm, world.windows, vector, config)
    true = gradient(world.lm, world.windows, vector, config)
    assert relative_error(found.reward_N, true.reward_N) < 1e-3
    assert found.loss_N == pytest.approx(true.loss_N, rel=1e-4)


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_a_positive_reward_lowers_the_reference_loss(world: World, name: str) -> None:
    """Equation 3's sign (mistake 2): a small step on a document does what its reward says."""
    vector = world.direction()
    measured = ESTIMATORS[name](world.lm, world.windows, vector, RewardsConfig())
    parameters = world.lm.parameters
    before = task_loss(world.lm, world.task)
    moments = world.trainer.second_moments()
    changes = []
    for window in world.windows:
        kept = {n: p.detach().clone() for n, p in parameters.items()}
        loss = _loss_of(world, window)
        parts = torch.autograd.grad(loss, list(parameters.values()))
        step = preconditioned(dict(zip(parameters, parts, strict=True)), moments, 0.1)
        with torch.no_grad():
            for n, p in parameters.items():
                p.add_(step[n], alpha=-1e-5)
        changes.append(before - task_loss(world.lm, world.task))
        with torch.no_grad():
            for n, p in parameters.items():
                p.copy_(kept[n])
    assert np.corrcoef(measured.reward_N, changes)[0, 1] > 0.95
    assert np.sign(measured.reward_N[np.argmax(changes)]) > 0


def _loss_of(world: World, window: np.ndarray) -> torch.Tensor:
    batch = padded_batch([window], [1])
    return world.lm.token_losses(batch).sum() / (len(window) - 1)


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_results_do_not_depend_on_batch_size_or_order(world: World, name: str) -> None:
    vector = world.direction()
    one = ESTIMATORS[name](world.lm, world.windows, vector, RewardsConfig(batch_size=1))
    many = ESTIMATORS[name](world.lm, world.windows[::-1], vector, RewardsConfig(batch_size=7))
    assert relative_error(many.reward_N[::-1], one.reward_N) < 2e-3


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_measuring_changes_nothing(folder: Path, name: str) -> None:
    """Parameters, optimizer, random state, mode and the next five losses, bit for bit."""
    plain, measured = World(folder), World(folder)
    before = snapshot(measured)
    measured.lm.model.train()
    result = measure(
        measured.store,
        measured.lm,
        measured.trainer.second_moments(),
        [measured.task],
        RewardsConfig(estimator=name, probes_per_category=4),  # type: ignore[arg-type]
        context=32,
        seed=5,
    )
    assert result.documents.num_rows > 0
    assert measured.lm.model.training
    assert all(p.grad is None for p in measured.lm.parameters.values())
    after = snapshot(measured)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    losses = [plain.step(step) for step in range(12, 17)]
    assert [measured.step(step) for step in range(12, 17)] == losses


def snapshot(world: World) -> dict[str, torch.Tensor]:
    state = {f"w.{n}": p.detach().clone() for n, p in world.lm.parameters.items()}
    for name, parameter in world.lm.parameters.items():
        for key, value in world.trainer.optimizer.state[parameter].items():
            state[f"{key}.{name}"] = value.clone()
    return {**state, "rng": torch.get_rng_state()}


def test_useful_documents_have_the_highest_rewards(world: World) -> None:
    result = measure(
        world.store,
        world.lm,
        world.trainer.second_moments(),
        [world.task],
        RewardsConfig(probes_per_category=12),
        context=32,
        seed=0,
    )
    kind = {name: reward.mean for name, reward in result.categories["kind"].items()}
    assert kind["useful"] > max(kind["neutral"], kind["noise"])
    assert result.oracle_error < 1e-2


def test_the_preconditioner_by_hand() -> None:
    gradient_ = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0])}
    moments = {"a": torch.tensor([4.0, 0.0]), "b": torch.tensor([1.0])}
    found = preconditioned(gradient_, moments, damping=0.5)
    delta = 0.5 * (2 + 0 + 1) / 3
    assert found["a"].tolist() == pytest.approx([1 / (2 + delta), 2 / delta])
    assert found["b"].tolist() == pytest.approx([3 / (1 + delta)])
    assert preconditioned(gradient_, {}, 0.5) is gradient_


def test_each_task_weighs_as_much_as_the_user_says(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task with gradients a thousand times larger does not drown the other."""
    loud = Task("loud", 1.0, (padded_batch(world.windows[1:4], [1] * 3),), 3)
    one, _ = direction(world.lm, [world.task], {}, 0.1)
    two, _ = direction(world.lm, [loud], {}, 0.1)

    def louder(lm: LanguageModel, task: Task) -> tuple[dict[str, torch.Tensor], float]:
        found, loss = reference_gradient(lm, task)
        scale = 1000.0 if task.name == "loud" else 1.0
        return {name: scale * part for name, part in found.items()}, loss

    monkeypatch.setattr("mads.rewards.direction.reference_gradient", louder)
    both, losses = direction(world.lm, [world.task, loud], {}, 0.1)
    assert norm(both) == pytest.approx(1.0)
    dots = [sum(float((both[n] * part[n]).sum()) for n in both) for part in (one, two)]
    assert dots[0] == pytest.approx(dots[1], rel=1e-4)
    assert set(losses) == {"planted", "loud"}
    uneven, _ = direction(world.lm, [replace(world.task, weight=3.0), loud], {}, 0.1)
    expected = {name: 3 * one[name] + two[name] for name in one}
    length = norm(expected)
    assert all(torch.allclose(uneven[n], expected[n] / length, atol=1e-5) for n in uneven)


def test_the_reference_gradient_is_that_of_the_mean_loss(world: World) -> None:
    """The mean over the task's tokens, not the mean of its batches' means."""
    sizes = ((3, 5), (30, 32))
    windows = [[world.windows[i][:size] for i, size in enumerate(pair)] for pair in sizes]
    task = Task("uneven", 1.0, tuple(padded_batch(pair, [1, 1]) for pair in windows), 4)
    found, loss = reference_gradient(world.lm, task)
    sums = [world.lm.token_losses(batch).sum() for batch in task.batches]
    mean = (sums[0] + sums[1]) / (2 + 4 + 29 + 31)
    assert loss == pytest.approx(mean.item(), rel=1e-5)
    assert task_loss(world.lm, task) == pytest.approx(mean.item(), rel=1e-5)
    of_means = (sums[0].item() / (2 + 4) + sums[1].item() / (29 + 31)) / 2
    assert abs(of_means - loss) > 1e-3 * loss  # else the test could not tell
    parts = torch.autograd.grad(mean, list(world.lm.parameters.values()))
    for (name, value), part in zip(found.items(), parts, strict=True):
        assert torch.allclose(value, part, rtol=1e-3, atol=1e-6), name


class LongDocuments:
    """A store whose documents all hold the tokens 0, 1, 2, …"""

    def __init__(self, length: int) -> None:
        self.lengths_N = np.array([length])

    def tokens(self, doc: int) -> tuple[LongDocuments, int]:
        return self, 0

    def row(self, row: int, start: int, stop: int) -> np.ndarray:
        return np.arange(start, min(stop, int(self.lengths_N[row])))


def windows_of(length: int, seed: int) -> list[np.ndarray]:
    store: Any = LongDocuments(length)
    return [_window(store, doc, 32, seed) for doc in range(200)]


def test_a_long_document_is_probed_at_a_seeded_place() -> None:
    windows = windows_of(1000, seed=1)
    firsts = np.array([window[0] for window in windows])
    assert all(np.array_equal(w, np.arange(w[0], w[0] + 32)) for w in windows)
    assert np.histogram(firsts, bins=10, range=(0, 969))[0].min() > 5
    assert firsts.tolist() == [window[0] for window in windows_of(1000, seed=1)]
    assert firsts.tolist() != [window[0] for window in windows_of(1000, seed=2)]
    assert {int(window[0]) for window in windows_of(33, seed=1)} == {0, 1}
    assert all(np.array_equal(w, np.arange(20)) for w in windows_of(20, seed=1))


def test_a_task_without_gradient_is_refused(world: World) -> None:
    broken = Task("silent", 0.0, world.task.batches, 1)
    with pytest.raises(DataError, match="directions cancel out"):
        direction(world.lm, [broken], {}, 0.1)


def test_a_model_that_is_not_finite_is_refused(folder: Path) -> None:
    world = World(folder, steps=1)
    with torch.no_grad():
        next(iter(world.lm.parameters.values())).fill_(math.nan)
    with pytest.raises(
        DataError, match="reference task 'planted': the norm of its gradient is nan"
    ):
        world.direction()


def test_a_loss_is_a_documents_own_padding_or_not(world: World) -> None:
    """Mistake 12: the probe trained on padding."""
    windows = [world.windows[0][:9], world.windows[1][:31]]
    together = document_losses(world.lm, windows, batch_size=2)
    alone = [document_losses(world.lm, [window], batch_size=1)[0] for window in windows]
    assert together == pytest.approx(alone, rel=1e-5)
