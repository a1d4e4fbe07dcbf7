"""A task in batches: the labels are the continuations' tokens, whatever the batch size."""

from __future__ import annotations

import numpy as np
import pytest

from mads.config import ModelConfig, TrainingConfig
from mads.tasks.task import Item, Task
from mads.training.build import build_model
from mads.training.task_loss import batched, task_loss

ITEMS = (
    Item(np.array([5, 6, 7]), 1),
    Item(np.array([1, 2, 3, 4]), 3),
    Item(np.array([9, 8, 7, 6, 5]), 2),
)


def test_labels_are_the_tokens_of_the_continuations() -> None:
    first, second = batched(Task("t", 2.0, ITEMS), 2).batches
    assert first.tokens_BT.tolist() == [[5, 6, 7, 0], [1, 2, 3, 4]]
    assert first.labels_BT.tolist() == [[6, 7, -100, -100], [-100, -100, 4, -100]]
    assert second.labels_BT.tolist() == [[-100, 7, 6, 5, -100]]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_loss_is_the_mean_over_all_continuation_tokens(size: int) -> None:
    task = batched(Task("t", 2.0, ITEMS), size)
    assert (task.name, task.weight, task.num_labels) == ("t", 2.0, 2 + 1 + 3)
    shape = ModelConfig(hidden_size=16, num_layers=1, num_heads=2, ffn_size=16)
    lm = build_model(shape, TrainingConfig(context=8, device="cpu"), 10, seed=0)
    alone = [batched(Task("t", 1.0, (item,)), 1) for item in ITEMS]
    by_hand = sum(task_loss(lm, one) * one.num_labels for one in alone) / 6
    assert task_loss(lm, task) == pytest.approx(by_hand, rel=1e-5)
