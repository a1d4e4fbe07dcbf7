"""Where the parameters should go: the preconditioned gradient of the reference loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mads.errors import DataError
from mads.training.model import LanguageModel
from mads.training.task_loss import BatchedTask
from mads.training.world import World

Vector = dict[str, Tensor]
"""One float32 tensor per parameter name: this process's part where the model is cut."""


def reference_gradient(lm: LanguageModel, task: BatchedTask) -> tuple[Vector, float]:
    """Return g_ref and the mean loss (nats per continuation token) of one task."""
    gradient = {name: torch.zeros_like(part) for name, part in lm.parts.items()}
    total = 0.0
    with lm.evaluating():
        for batch in task.batches:
            size = max(lm.gradient_tokens // batch.tokens_BT.shape[1], 1)
            for share in batch.shares(lm.world, size):
                loss = lm.token_losses(share).sum() / task.num_labels
                for name, part in lm.gradients(loss).items():
                    gradient[name] += part
                total += float(loss.detach())
    return gradient, lm.world.total(total)


def preconditioned(gradient: Vector, moments: Vector, damping: float, world: World) -> Vector:
    """Return ``g / (√v̂ + δ)`` with δ = damping · mean(√v̂) over all parameters.

    Before the first optimizer step there is no v̂, and the gradient is returned as it is. The
    damping is needed because some v̂ are zero.
    """
    if not moments:
        return gradient
    # A parameter that no step has used has no moments.
    roots = {
        name: moments[name].sqrt() if name in moments else torch.zeros_like(value)
        for name, value in gradient.items()
    }
    count = sum(root.numel() for root in roots.values())
    total = sum(float(root.double().sum()) for root in roots.values())
    all_total, all_count = world.sum(np.array([total, count], np.float64)).tolist()
    delta = max(damping * (all_total / all_count), 1e-30)
    return {name: g / (roots[name] + delta) for name, g in gradient.items()}


def norm(vector: Mapping[str, Tensor], world: World) -> float:
    """Return the Euclidean norm over all parameters, whose parts may lie on several processes."""
    squares = sum(float(part.double().square().sum()) for part in vector.values())
    return math.sqrt(world.total(squares))


def dot(a: Mapping[str, Tensor], b: Mapping[str, Tensor], world: World) -> float:
    """Return the inner product over all parameters, whose parts may lie on several processes."""
    products = sum(float((part.double() * b[name].double()).sum()) for name, part in a.items())
    return world.total(products)


@dataclass(frozen=True, slots=True)
class Direction:
    """A unit vector in parameter space: moving the parameters along −v lowers a reference loss.

    ``parts`` are the tasks it stands for, each with its weight divided by the length of its
    preconditioned gradient: the direction is that of the gradient of Σ share · loss.
    """

    name: str
    unit: Vector
    weight: float  # with which its rewards count
    parts: tuple[tuple[BatchedTask, float], ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """Where the reference tasks want the parameters to go, and each task's loss."""

    directions: tuple[Direction, ...]
    losses: dict[str, float]  # nats per continuation token


def reference(
    lm: LanguageModel, tasks: Sequence[BatchedTask], moments: Vector, damping: float, per_task: bool
) -> Reference:
    """Return one direction per task, or (``per_task`` false) one for each objective of the tasks.

    Each task's direction has norm 1 before they are summed with the tasks' weights, so that none
    drowns the others. Rewards along the directions, times the directions' weights, add up to those
    along the common direction of all tasks. Raises DataError when a task's gradient is zero or not
    finite, or when the tasks cancel out.
    """
    total: Vector = {}
    groups: dict[str, _Sum] = {}
    losses = {}
    names = dict.fromkeys(task.objective for task in tasks)
    for task in tasks:
        gradient, losses[task.name] = reference_gradient(lm, task)
        part = preconditioned(gradient, moments, damping, lm.world)
        length = norm(part, lm.world)
        if not 0 < length < float("inf"):
            raise DataError(
                f"reference task {task.name!r}: the norm of its gradient is {length}. "
                "Is the model still finite, and does the task have continuations?"
            )
        unit = {name: value / length for name, value in part.items()}
        _add(total, unit, task.weight)
        group = task.name if per_task else task.objective if len(names) > 1 else "all"
        groups.setdefault(group, _Sum()).add(task, unit, length)
    whole = norm(total, lm.world)
    if not 0 < whole < float("inf"):
        raise DataError("the reference tasks' directions cancel out; check their weights.")
    directions = (found.direction(name, whole, lm.world) for name, found in groups.items())
    return Reference(tuple(directions), losses)


@dataclass(slots=True)
class _Sum:
    """Tasks' unit directions times their weights, added up."""

    vector: Vector = field(default_factory=dict)
    tasks: list[tuple[BatchedTask, float]] = field(default_factory=list)

    def add(self, task: BatchedTask, unit: Vector, length: float) -> None:
        _add(self.vector, unit, task.weight)
        self.tasks.append((task, task.weight / length))

    def direction(self, name: str, whole: float, world: World) -> Direction:
        """Return the sum at norm 1; ``whole`` is the norm of the sum of all tasks."""
        length = norm(self.vector, world)
        if not 0 < length < float("inf"):
            raise DataError(f"the directions of {name!r} cancel out; check the tasks' weights.")
        unit = {key: value / length for key, value in self.vector.items()}
        parts = tuple((task, share / length) for task, share in self.tasks)
        return Direction(name, unit, length / whole, parts)


def _add(total: Vector, unit: Vector, weight: float) -> None:
    for name, value in unit.items():
        total[name] = total[name] + weight * value if name in total else weight * value
