"""Estimators against each other, against the truth, and what they must leave alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import planted
import pytest
import torch

from mads.errors import DataError
from mads.rewards.direction import Reference, norm, preconditioned, reference, reference_gradient
from mads.rewards.estimators import ESTIMATORS, estimate
from mads.rewards.estimators.probe import Measured, Probe, document_losses, relative_error
from mads.rewards.estimators.projected import CountSketch, influence
from mads.rewards.measure import measure, window
from mads.rewards.sections import ESTIMATOR_SECTIONS, ForwardConfig
from mads.store.store import Store
from mads.tasks.task import make_task
from mads.training.data import StretchData, padded_batch
from mads.training.model import LanguageModel, build_model
from mads.training.task_loss import BatchedTask, batched, task_loss
from mads.training.trainer import Trainer
from mads.training.world import ALONE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("planted")
    planted.build(path)
    return path


SMALL = 1e-4  # learning rate at which one step shows the slope of the loss, not its bends


class World:
    """A trained tiny model, its store and its reference task."""

    def __init__(self, folder: Path, steps: int = 12) -> None:
        self.recipe = planted.recipe(folder, steps=40)
        self.store = Store(folder / "store")
        training = self.recipe.training
        vocab = self.store.tokenizer.vocab_size
        self.lm = build_model(self.recipe.model, training, vocab, seed=1)
        self.trainer = Trainer(self.lm, training, seed=2)
        docs = self.store.order_docs(np.arange(int(self.store.cells.num_docs_C.sum())))
        sizes = np.array([len(self._tokens(int(doc))) for doc in docs])
        num_sequences = int(sizes.sum()) // training.context
        self.data = StretchData(self.store, docs, sizes, num_sequences, training.context, seed=3)
        for step in range(steps):
            self.step(step)
        (name, config), *_ = self.recipe.rewards.tasks.items()
        self.task: BatchedTask = batched(
            make_task(name, config, self.store.tokenizer, 32, seed=0), 4
        )
        self.windows = [self._tokens(int(doc))[:32] for doc in docs[::9]]

    def _tokens(self, doc: int) -> np.ndarray:
        reader, row = self.store.tokens(doc)
        return reader.row(row)

    def step(self, number: int) -> float:
        return self.trainer.step(number, self.data.batch(number, 16, document_mask=True)).loss

    def reference(self, tasks: Sequence[BatchedTask] = (), per_task: bool = False) -> Reference:
        moments = self.trainer.optimizer_state(12).second_moments()
        return reference(self.lm, tasks or [self.task], moments, 0.1, per_task)

    def rewards(self, name: str, windows: Sequence[np.ndarray] = (), **config: Any) -> Measured:
        """Return what an estimator says of the windows, in the direction of the task."""
        directions = self.reference().directions
        settings = ESTIMATOR_SECTIONS[name](estimator=name, **config)
        windows = windows or self.windows
        state = replace(self.trainer.optimizer_state(12), learning_rate=SMALL)
        return estimate(Probe(self.lm, windows, directions, state, settings))


@pytest.fixture(scope="module")
def world(folder: Path) -> World:
    return World(folder)


def test_forward_agrees_with_gradient(world: World) -> None:
    found, true = world.rewards("forward"), world.rewards("gradient")
    assert relative_error(found.reward_DN, true.reward_DN) < 1e-3
    assert found.loss_N == pytest.approx(true.loss_N, rel=1e-4)


def test_every_estimator_ranks_documents_as_one_step_does(world: World) -> None:
    truth = world.rewards("one_step").reward_DN[0]
    for name in ESTIMATORS:
        assert np.corrcoef(world.rewards(name).reward_DN[0], truth)[0, 1] > 0.6, name


def small_steps(world: World) -> list[float]:
    """Return how much a small preconditioned step on each window lowers the reference loss."""
    parameters = world.lm.parameters
    before = task_loss(world.lm, world.task)
    moments = world.trainer.optimizer_state(12).second_moments()
    changes = []
    for part in world.windows:
        kept = {n: p.detach().clone() for n, p in parameters.items()}
        found = torch.autograd.grad(_loss_of(world, part), list(parameters.values()))
        step = preconditioned(dict(zip(parameters, found, strict=True)), moments, 0.1, ALONE)
        with torch.no_grad():
            for n, p in parameters.items():
                p.add_(step[n], alpha=-1e-5)
        changes.append(before - task_loss(world.lm, world.task))
        with torch.no_grad():
            for n, p in parameters.items():
                p.copy_(kept[n])
    return changes


LEAST_AGREEMENT = {"forward": 0.95, "gradient": 0.95, "one_step": 0.6, "projected": 0.6}
"""With a step of infinitely small size; the others ask something else (see their docstrings)."""


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_a_positive_reward_lowers_the_reference_loss(world: World, name: str) -> None:
    """Equation 3's sign (mistake 2): a small step on a document does what its reward says."""
    changes = np.array(small_steps(world))
    reward_N = world.rewards(name).reward_DN[0]
    assert np.corrcoef(reward_N, changes)[0, 1] > LEAST_AGREEMENT[name]
    assert reward_N[np.argmax(changes)] > 0


def _loss_of(world: World, window: np.ndarray) -> torch.Tensor:
    batch = padded_batch([window], [1])
    return world.lm.token_losses(batch).sum() / (len(window) - 1)


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_results_do_not_depend_on_batch_size_or_order(world: World, name: str) -> None:
    one = world.rewards(name, batch_size=1).reward_DN
    many = world.rewards(name, world.windows[::-1], batch_size=7).reward_DN
    assert relative_error(many[:, ::-1], one) < 2e-3


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_nothing_to_probe_is_refused(world: World, name: str) -> None:
    settings = ESTIMATOR_SECTIONS[name](estimator=name)
    state, directions = world.trainer.optimizer_state(12), world.reference().directions
    with pytest.raises(DataError, match="no document could be probed: the corpus has none of two"):
        estimate(Probe(world.lm, [], directions, state, settings))
    short = [world.windows[0], np.array([3])]
    with pytest.raises(DataError, match="probed document 1 has fewer than two tokens; expected 2"):
        estimate(Probe(world.lm, short, directions, state, settings))


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_rewards_of_tasks_add_up_to_those_of_all(world: World, name: str) -> None:
    other = BatchedTask("other", 3.0, (padded_batch(world.windows[1:4], [1] * 3),))
    settings = ESTIMATOR_SECTIONS[name](estimator=name)
    state = world.trainer.optimizer_state(12)

    def rewards(per_task: bool) -> np.ndarray:
        target = world.reference([world.task, other], per_task)
        measured = estimate(Probe(world.lm, world.windows, target.directions, state, settings))
        return np.array([d.weight for d in target.directions]) @ measured.reward_DN

    assert relative_error(rewards(True), rewards(False)) < 5e-3


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


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_measuring_changes_nothing(folder: Path, name: str) -> None:
    """Parameters, optimizer, random state, mode and the next five losses, bit for bit."""
    plain, measured = World(folder), World(folder)
    before = snapshot(measured)
    measured.lm.model.train()
    result = measure(
        measured.store,
        measured.lm,
        measured.trainer.optimizer_state(12),
        [measured.task],
        ESTIMATOR_SECTIONS[name](estimator=name, probes_per_category=4),
        context=32,
        seed=5,
    )
    assert result.table.num_rows > 0
    assert 0 <= result.oracle_error < 1
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
        world.trainer.optimizer_state(12),
        [world.task],
        ForwardConfig(estimator="forward", probes_per_category=12),
        context=32,
        seed=0,
    )
    kind = {name: reward.mean for name, reward in result.feedback.categories["kind"].items()}
    assert kind["useful"] > max(kind["neutral"], kind["noise"])
    assert result.oracle_error < 1e-2


def test_the_preconditioner_by_hand() -> None:
    gradient_ = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0])}
    moments = {"a": torch.tensor([4.0, 0.0]), "b": torch.tensor([1.0])}
    found = preconditioned(gradient_, moments, 0.5, ALONE)
    delta = 0.5 * (2 + 0 + 1) / 3
    assert found["a"].tolist() == pytest.approx([1 / (2 + delta), 2 / delta])
    assert found["b"].tolist() == pytest.approx([3 / (1 + delta)])
    assert preconditioned(gradient_, {}, 0.5, ALONE) is gradient_


def test_each_task_weighs_as_much_as_the_user_says(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task with gradients a thousand times larger does not drown the other."""
    loud = BatchedTask("loud", 1.0, (padded_batch(world.windows[1:4], [1] * 3),))

    def unit(*tasks: BatchedTask) -> dict[str, torch.Tensor]:
        return reference(world.lm, tasks, {}, 0.1, per_task=False).directions[0].unit

    one, two = unit(world.task), unit(loud)

    def louder(lm: LanguageModel, task: BatchedTask) -> tuple[dict[str, torch.Tensor], float]:
        found, loss = reference_gradient(lm, task)
        scale = 1000.0 if task.name == "loud" else 1.0
        return {name: scale * part for name, part in found.items()}, loss

    monkeypatch.setattr("mads.rewards.direction.reference_gradient", louder)
    both = unit(world.task, loud)
    assert norm(both, ALONE) == pytest.approx(1.0)
    dots = [sum(float((both[n] * part[n]).sum()) for n in both) for part in (one, two)]
    assert dots[0] == pytest.approx(dots[1], rel=1e-4)
    found = reference(world.lm, [world.task, loud], {}, 0.1, per_task=True)
    assert set(found.losses) == {"planted", "loud"}
    assert [direction.name for direction in found.directions] == ["planted", "loud"]
    assert all(norm(direction.unit, ALONE) == pytest.approx(1.0) for direction in found.directions)
    uneven = unit(replace(world.task, weight=3.0), loud)
    expected = {name: 3 * one[name] + two[name] for name in one}
    length = norm(expected, ALONE)
    assert all(torch.allclose(uneven[n], expected[n] / length, atol=1e-5) for n in uneven)


def test_the_reference_gradient_is_that_of_the_mean_loss(world: World) -> None:
    """The mean over the task's tokens, not the mean of its batches' means."""
    sizes = ((3, 5), (30, 32))
    windows = [[world.windows[i][:size] for i, size in enumerate(pair)] for pair in sizes]
    task = BatchedTask("uneven", 1.0, tuple(padded_batch(pair, [1, 1]) for pair in windows))
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
    return [window(store, doc, 32, seed) for doc in range(200)]


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
    broken = BatchedTask("silent", 0.0, world.task.batches)
    with pytest.raises(DataError, match="directions cancel out"):
        world.reference([broken])


def test_a_model_that_is_not_finite_is_refused(folder: Path) -> None:
    world = World(folder, steps=1)
    with torch.no_grad():
        next(iter(world.lm.parameters.values())).fill_(math.nan)
    with pytest.raises(
        DataError, match="reference task 'planted': the norm of its gradient is nan"
    ):
        world.reference()


def test_a_loss_is_a_documents_own_padding_or_not(world: World) -> None:
    """Mistake 12: the probe trained on padding."""
    windows = [world.windows[0][:9], world.windows[1][:31]]
    together = document_losses(world.lm, windows, batch_size=2)
    alone = [document_losses(world.lm, [window], batch_size=1)[0] for window in windows]
    assert together == pytest.approx(alone, rel=1e-5)
