"""Where the reference tasks want the parameters to go."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rewards.tiny import World

from mads.errors import DataError
from mads.rewards.direction import norm, preconditioned, reference, reference_gradient
from mads.training.data import padded_batch
from mads.training.model import LanguageModel
from mads.training.task_loss import BatchedTask, task_loss
from mads.training.world import ALONE


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


def test_tasks_of_one_objective_share_a_direction(world: World) -> None:
    """Rewards along the groups' directions, times their weights, add up to the common one's."""
    first = padded_batch(world.windows[1:4], [1] * 3)
    second = padded_batch(world.windows[5:9], [1] * 4)
    tasks = [
        world.task,
        BatchedTask("more", 2.0, (first,)),
        BatchedTask("whole", 3.0, (second,), "text"),
    ]
    found = reference(world.lm, tasks, {}, 0.1, per_task=False).directions
    assert [direction.name for direction in found] == ["answer", "text"]
    assert [len(direction.parts) for direction in found] == [2, 1]
    assert all(norm(direction.unit, ALONE) == pytest.approx(1.0) for direction in found)
    same = [replace(task, objective="answer") for task in tasks]
    (common,) = reference(world.lm, same, {}, 0.1, per_task=False).directions
    assert common.name == "all"
    assert common.weight == pytest.approx(1.0)
    single = reference(world.lm, tasks, {}, 0.1, per_task=True).directions
    for some in (found, single):
        for name, part in common.unit.items():
            total = sum(direction.weight * direction.unit[name] for direction in some)
            assert torch.allclose(torch.as_tensor(total), part, atol=1e-6), name
    for some in (found, single):
        parts = [(task.name, share * d.weight) for d in some for task, share in d.parts]
        assert dict(parts) == pytest.approx({task.name: share for task, share in common.parts})
