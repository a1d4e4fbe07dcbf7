"""Which tasks a run watches, and what their losses are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import planted
import pytest
import torch

from mads.config import EvaluationConfig, TaskConfig
from mads.errors import DataError
from mads.run.watched import Watched
from mads.store.store import Store
from mads.training.build import build_model
from mads.training.task_loss import task_loss


def test_answers_objectives_and_evaluation_tasks_are_watched(folder: Path, store: Store) -> None:
    recipe = planted.recipe(folder)
    path = next(iter(recipe.rewards.tasks.values())).path
    tasks = {n: replace(task, objective="text") for n, task in recipe.rewards.tasks.items()}
    recipe = replace(
        recipe,
        rewards=replace(recipe.rewards, tasks=tasks),
        evaluation=EvaluationConfig(tasks={"held": TaskConfig(path=path)}),
    )
    found = Watched.of(recipe, store.tokenizer)
    assert list(found.tasks) == ["planted", "planted-text", "held"]
    assert [task.name for task in found.references] == ["planted-text"]
    assert found.references[0] is found.tasks["planted-text"]

    lm = build_model(recipe.model, recipe.training, store.tokenizer.vocab_size, 0)
    losses = found.losses(lm, {"held": 1.5})
    assert losses["held"] == 1.5
    assert losses["planted"] == task_loss(lm, found.tasks["planted"])
    assert losses["planted"] != losses["planted-text"]
    with torch.no_grad():
        next(iter(lm.parameters.values())).fill_(float("nan"))
    with pytest.raises(DataError, match="the losses of tasks are not finite: planted nan, planted"):
        found.losses(lm, {})
