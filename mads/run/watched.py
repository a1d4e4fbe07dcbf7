"""The tasks that a run watches: references, whose loss is feedback too, and evaluation tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from mads.config import Recipe, TaskConfig
from mads.corpus.tokenizer import StoreTokenizer
from mads.errors import DataError
from mads.tasks.task import Task, by_objective, make_task
from mads.training.model import LanguageModel
from mads.training.task_loss import BatchedTask, batched, task_loss


@dataclass(frozen=True, slots=True)
class Watched:
    """Tasks in batches by name; ``references`` are those along whose loss rewards are measured.

    A reference task's answers are watched whatever its objective is.
    """

    tasks: Mapping[str, BatchedTask]
    references: tuple[BatchedTask, ...]

    @classmethod
    def of(cls, recipe: Recipe, tokenizer: StoreTokenizer) -> Self:
        """Read a recipe's tasks; raises UsageError or DataError for one that cannot be."""

        def make(configs: Mapping[str, TaskConfig]) -> list[Task]:
            context, seed = recipe.training.context, recipe.evaluation.seed
            return [make_task(n, config, tokenizer, context, seed) for n, config in configs.items()]

        answers = make(recipe.rewards.tasks)
        counted = [
            task
            for answer in answers
            for task in by_objective(answer, recipe.rewards.tasks[answer.name].objective)
        ]
        # Of several with one name the last.
        every = {task.name: task for task in (*answers, *counted, *make(recipe.evaluation.tasks))}
        size = recipe.rewards.batch_size
        tasks = {name: batched(task, size) for name, task in every.items()}
        return cls(tasks, tuple(tasks[task.name] for task in counted))

    def losses(self, lm: LanguageModel, known: Mapping[str, float]) -> dict[str, float]:
        """Return the loss of every task; those in ``known`` are not computed again.

        Raises DataError for a loss that is not finite.
        """
        found = {
            name: known[name] if name in known else task_loss(lm, task)
            for name, task in self.tasks.items()
        }
        bad = [f"{name} {loss}" for name, loss in found.items() if not np.isfinite(loss)]
        if bad:
            raise DataError(
                f"the losses of tasks are not finite: {', '.join(bad)}. Go on from an older "
                "checkpoint, into another --out with a lower training.learning_rate."
            )
        return found
