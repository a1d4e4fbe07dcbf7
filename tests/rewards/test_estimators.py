"""What every estimator must do, over the whole dictionary."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rewards.tiny import World

from mads.errors import DataError
from mads.rewards.direction import preconditioned
from mads.rewards.estimators import ESTIMATORS, estimate
from mads.rewards.estimators.question import Question, relative_error
from mads.rewards.sections import ESTIMATOR_SECTIONS
from mads.training.data import padded_batch
from mads.training.task_loss import BatchedTask, task_loss
from mads.training.world import ALONE


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
        estimate(Question(world.lm, [], directions, state, settings))
    short = [world.windows[0], np.array([3])]
    with pytest.raises(DataError, match="probed document 1 has fewer than two tokens; expected 2"):
        estimate(Question(world.lm, short, directions, state, settings))


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_rewards_of_tasks_add_up_to_those_of_all(world: World, name: str) -> None:
    other = BatchedTask("other", 3.0, (padded_batch(world.windows[1:4], [1] * 3),))
    settings = ESTIMATOR_SECTIONS[name](estimator=name)
    state = world.trainer.optimizer_state(12)

    def rewards(per_task: bool) -> np.ndarray:
        target = world.reference([world.task, other], per_task)
        measured = estimate(Question(world.lm, world.windows, target.directions, state, settings))
        return np.array([d.weight for d in target.directions]) @ measured.reward_DN

    assert relative_error(rewards(True), rewards(False)) < 5e-3
