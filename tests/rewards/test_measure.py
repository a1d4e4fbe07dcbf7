"""A round of feedback: what it finds, and that it changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rewards.tiny import World

from mads.rewards.estimators import ESTIMATORS, estimate
from mads.rewards.estimators.gradient import gradient
from mads.rewards.estimators.question import Question
from mads.rewards.measure import (
    ORACLE_LIMIT,
    REWARDS_SCHEMA,
    _oracle_error,
    checked,
    measure,
    window,
)
from mads.rewards.sections import ESTIMATOR_SECTIONS, ForwardConfig
from mads.training.model import Precision


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
    assert result.table.select(REWARDS_SCHEMA.names).schema.equals(REWARDS_SCHEMA)
    agents = list(measured.store.spec.agents)
    assert result.table.column_names == [*REWARDS_SCHEMA.names, *agents]
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


def question(world: World, **config: Any) -> Question:
    section = ForwardConfig(estimator="forward", **config)
    state = world.trainer.optimizer_state(12)
    return Question(world.lm, world.windows, world.reference().directions, state, section)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_each_precision_has_a_step_that_the_oracle_agrees_with(
    world: World, precision: Precision
) -> None:
    true = gradient(question(world)).reward_DN
    with world.lm.feedback_in(precision):
        found = estimate(question(world)).reward_DN
    assert world.lm.feedback_precision == "float32"
    assert np.corrcoef(found[0], true[0])[0, 1] > 0.99


def test_bfloat16_drowns_a_step_that_float32_sees(world: World) -> None:
    true = gradient(question(world)).reward_DN
    with world.lm.feedback_in("bfloat16"):
        found = estimate(question(world, epsilon=3e-5)).reward_DN
    assert np.corrcoef(found[0], true[0])[0, 1] < 0.9
    found = estimate(question(world, epsilon=3e-4)).reward_DN
    assert np.corrcoef(found[0], true[0])[0, 1] > 0.999


def test_a_step_that_drowns_is_tried_again_three_times_as_far(world: World) -> None:
    with world.lm.feedback_in("bfloat16"):
        near, far = (question(world, epsilon=epsilon) for epsilon in (1e-3, 3e-3))
        found, error = checked(near)
        assert np.array_equal(found.reward_DN, estimate(far).reward_DN)
        assert error < _oracle_error(near, estimate(near))
    good, small = checked(question(world))
    assert small < ORACLE_LIMIT
    assert np.array_equal(good.reward_DN, estimate(question(world)).reward_DN)


class LongDocuments:
    """A store whose documents all hold the tokens 0, 1, 2, …"""

    def __init__(self, length: int) -> None:
        self.lengths_N = np.array([length])

    def tokens(self, doc: int) -> tuple[LongDocuments, int]:
        return self, 0

    def length(self, row: int) -> int:
        return int(self.lengths_N[row])

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


def test_a_placebo_has_the_same_rewards_in_another_order(world: World) -> None:
    """And they say nothing of categories, while losses stay with their documents."""

    def rewards(placebo: bool) -> tuple[list[float], list[float], float]:
        config = ForwardConfig(estimator="forward", probes_per_category=30, placebo=placebo)
        state = world.trainer.optimizer_state(12)
        found = measure(world.store, world.lm, state, [world.task], config, context=32, seed=5)
        kinds = found.feedback.categories["kind"]
        table = found.table.to_pydict()
        return table["reward"], table["loss"], kinds["useful"].mean - kinds["noise"].mean

    true, losses, gap = rewards(False)
    dealt, same_losses, no_gap = rewards(True)
    assert sorted(dealt) == sorted(true)
    assert dealt != true
    assert same_losses == losses
    assert abs(no_gap) < 0.3 * gap
