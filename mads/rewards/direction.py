"""Where the parameters should go: the preconditioned gradient of the reference loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mads.errors import DataError
from mads.training.model import LanguageModel
from mads.training.task_loss import BatchedTask
from mads.training.world import World

Vector = dict[str, Tensor]
"""One float32 tensor per parameter name."""


def reference_gradient(lm: LanguageModel, task: BatchedTask) -> tuple[Vector, float]:
    """Return g_ref and the mean loss (nats per continuation token) of one task."""
    gradient = {name: torch.zeros_like(p) for name, p in lm.parameters.items()}
    total = 0.0
    with lm.evaluating():
        for batch in task.batches:
            size = max(lm.gradient_tokens // batch.tokens_BT.shape[1], 1)
            for start in range(0, len(batch.tokens_BT), size):
                losses = lm.token_losses(batch.rows(start, start + size))
                loss = losses.sum() / task.num_labels
                for name, part in lm.gradients(loss).items():
                    gradient[name] += part
                total += float(loss.detach())
    return gradient, total


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
    """Return one direction per task, or (``per_task`` false) a single one of all tasks together.

    Each task's direction has norm 1 before they are summed with the tasks' weights, so that none
    drowns the others. Rewards along single tasks' directions, times the directions' weights, add
    up to those along the common one. Raises DataError when a task's gradient is zero or not
    finite, or when the tasks cancel out.
    """
    found: list[Direction] = []
    total: Vector = {}
    losses = {}
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
        kept = unit if per_task else {}
        found.append(Direction(task.name, kept, task.weight, ((task, 1 / length),)))
    length = norm(total, lm.world)
    if not 0 < length < float("inf"):
        raise DataError("the reference tasks' directions cancel out; check their weights.")
    if per_task:
        scaled = tuple(replace(one, weight=one.weight / length) for one in found)
        return Reference(scaled, losses)
    parts = tuple((task, one.weight / length * share) for one in found for task, share in one.parts)
    unit = {name: value / length for name, value in total.items()}
    return Reference((Direction("all", unit, 1.0, parts),), losses)


def _add(total: Vector, unit: Vector, weight: float) -> None:
    for name, value in unit.items():
        total[name] = total[name] + weight * value if name in total else weight * value
