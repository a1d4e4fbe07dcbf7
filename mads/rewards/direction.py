"""Where the parameters should go: the preconditioned gradient of the reference loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mads.errors import DataError
from mads.rewards.tasks import Task
from mads.training.model import LanguageModel

Vector = dict[str, Tensor]
"""One float32 tensor per parameter name."""


def reference_gradient(lm: LanguageModel, task: Task) -> tuple[Vector, float]:
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


def preconditioned(gradient: Vector, moments: Vector, damping: float) -> Vector:
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
    mean = sum(float(root.double().sum()) for root in roots.values()) / count
    delta = max(damping * mean, 1e-30)
    return {name: g / (roots[name] + delta) for name, g in gradient.items()}


def norm(vector: Mapping[str, Tensor]) -> float:
    """Return the Euclidean norm over all parameters."""
    squares = sum(float(part.double().square().sum()) for part in vector.values())
    return math.sqrt(squares)


def direction(
    lm: LanguageModel, tasks: Sequence[Task], moments: Vector, damping: float
) -> tuple[Vector, dict[str, float]]:
    """Return the unit direction v of all tasks together, and each task's loss.

    Each task's direction has norm 1 before they are summed with the tasks' weights, so that none
    drowns the others. Moving the parameters along −v lowers the reference loss. Raises DataError
    when a task's gradient is zero or not finite.
    """
    total: Vector = {}
    losses = {}
    for task in tasks:
        gradient, losses[task.name] = reference_gradient(lm, task)
        part = preconditioned(gradient, moments, damping)
        length = norm(part)
        if not 0 < length < float("inf"):
            raise DataError(
                f"reference task {task.name!r}: the norm of its gradient is {length}. "
                "Is the model still finite, and does the task have continuations?"
            )
        for name, value in part.items():
            scaled = value * (task.weight / length)
            total[name] = total[name] + scaled if name in total else scaled
    length = norm(total)
    if not 0 < length < float("inf"):
        raise DataError("the reference tasks' directions cancel out; check their weights.")
    return {name: value / length for name, value in total.items()}, losses
