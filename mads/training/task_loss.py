"""A task in batches, and its loss under a model."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mads.tasks.task import Objective, Task
from mads.training.data import padded_batch
from mads.training.model import LanguageModel, TokenBatch


@dataclass(frozen=True, slots=True)
class BatchedTask:
    """A task as the model reads it: batches of items of like length."""

    name: str
    weight: float
    batches: tuple[TokenBatch, ...]
    objective: Objective = "answer"

    @property
    def num_labels(self) -> int:
        """Continuation tokens of the whole task."""
        return sum(int((batch.labels_BT >= 0).sum()) for batch in self.batches)


def batched(task: Task, size: int) -> BatchedTask:
    """Put a task's items into batches of ``size``."""
    groups = [task.items[i : i + size] for i in range(0, len(task.items), size)]
    batches = [
        padded_batch([item.tokens_T for item in group], [item.num_context for item in group])
        for group in groups
    ]
    return BatchedTask(task.name, task.weight, tuple(batches), task.objective)


def task_loss(lm: LanguageModel, task: BatchedTask) -> float:
    """Return the mean loss of a task's continuation tokens, in nats."""
    total = torch.zeros((), dtype=torch.float64, device=lm.device)
    with lm.evaluating(), torch.no_grad():
        for batch in task.batches:
            for share in batch.shares(lm.world, len(batch.tokens_BT)):
                total += lm.token_losses(share).double().sum()
    return lm.world.total(float(total)) / task.num_labels
