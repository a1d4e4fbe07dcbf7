"""Training on one category alone: what it reads, and that the trainer is as before afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import planted
import pytest
import torch

from mads.evaluation.category_truth import (
    MIXTURE,
    batches,
    categories_of,
    outcomes,
    rows_of,
    snapshot,
)
from mads.store.store import Store
from mads.tasks.task import make_task
from mads.training.model import build_model
from mads.training.task_loss import batched
from mads.training.trainer import Trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("planted")
    planted.build(path)
    return path


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return Store(folder / "store")


def test_categories_with_enough_documents(store: Store) -> None:
    kinds = {("kind", name) for name in planted.KINDS}
    assert kinds <= set(categories_of(store, 60))
    assert kinds.isdisjoint(categories_of(store, 61))


def test_the_rows_of_categories_part_the_corpus(store: Store) -> None:
    every = rows_of(store, MIXTURE)
    parts = [rows_of(store, ("kind", name)) for name in store.cells.categories["kind"]]
    assert sorted(np.concatenate(parts).tolist()) == sorted(every.tolist())


def test_batches_hold_as_many_tokens_as_were_asked_for(store: Store) -> None:
    """A small category is read again."""
    found = list(batches(store, ("kind", "useful"), 10 * 512, 32, 512, seed=0))
    assert [batch.tokens_BT.shape for batch in found] == [(16, 32)] * 10
    again = list(batches(store, ("kind", "useful"), 10 * 512, 32, 512, seed=0))
    assert all(torch.equal(a.tokens_BT, b.tokens_BT) for a, b in zip(found, again, strict=True))


def make_trainer(folder: Path, store: Store) -> Trainer:
    recipe = planted.recipe(folder, steps=60)
    vocab_size = store.tokenizer.vocab_size
    trainer = Trainer(build_model(recipe.model, recipe.training, vocab_size, 0), recipe.training, 0)
    for step, batch in enumerate(batches(store, MIXTURE, 5 * 512, 32, 512, seed=9)):
        trainer.step(step, batch)
    return trainer


def test_useful_text_helps_more_than_noise_and_nothing_stays_changed(
    folder: Path, store: Store
) -> None:
    trainer = make_trainer(folder, store)
    (name, config), *_ = planted.recipe(folder).rewards.tasks.items()
    task = batched(make_task(name, config, store.tokenizer, 32, 0), 4)
    before = {n: p.detach().clone() for n, p in trainer.lm.parameters.items()}
    wanted = [("kind", "useful"), ("kind", "noise")]
    found = list(outcomes(store, trainer, [task], wanted, (2, 6), 5, 32, 512, seed=0))
    assert [(o.category, o.step) for o in found] == [
        (category, step) for category in (MIXTURE, *wanted) for step in (2, 6)
    ]
    last = {o.category: o.losses[name] for o in found if o.step == 6}
    assert last["kind", "useful"] < last[MIXTURE] < last["kind", "noise"]
    assert all(torch.equal(before[n], p) for n, p in trainer.lm.parameters.items())


def test_a_snapshot_puts_back_parameters_and_moments(folder: Path, store: Store) -> None:
    trainer = make_trainer(folder, store)
    restore = snapshot(trainer)
    stream = list(batches(store, MIXTURE, 2 * 512, 32, 512, seed=1))
    first = [trainer.step(5 + i, batch).loss for i, batch in enumerate(stream)]
    restore()
    assert [trainer.step(5 + i, batch).loss for i, batch in enumerate(stream)] == first
