"""A tiny model that was trained on the planted world, for all that measures rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import planted

from mads.rewards.direction import Reference, reference
from mads.rewards.estimators import estimate
from mads.rewards.estimators.question import Measured, Question
from mads.rewards.sections import ESTIMATOR_SECTIONS
from mads.store.store import Store
from mads.tasks.task import make_task
from mads.training.build import build_model
from mads.training.data import StretchData
from mads.training.task_loss import BatchedTask, batched
from mads.training.trainer import Trainer

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
        docs = self.store.order.docs(np.arange(int(self.store.cells.num_docs_C.sum())))
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
        return estimate(Question(self.lm, windows, directions, state, settings))
