"""Training on one category alone: what it reads, and that the trainer is as before afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import planted
import torch

from mads.evaluation.category_truth import (
    MIXTURE,
    Category,
    alone,
    categories_of,
    enriched,
    outcomes,
    rows_of,
    snapshot,
)
from mads.store.store import Store
from mads.tasks.task import make_task
from mads.training.build import build_model
from mads.training.model import TokenBatch
from mads.training.task_loss import batched
from mads.training.trainer import Trainer


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
    found = list(alone(store, ("kind", "useful"), 10 * 512, 32, 512, seed=0))
    assert [batch.tokens_BT.shape for batch in found] == [(16, 32)] * 10
    again = list(alone(store, ("kind", "useful"), 10 * 512, 32, 512, seed=0))
    assert all(torch.equal(a.tokens_BT, b.tokens_BT) for a, b in zip(found, again, strict=True))


def make_trainer(folder: Path, store: Store) -> Trainer:
    recipe = planted.recipe(folder, steps=60)
    vocab_size = store.tokenizer.vocab_size
    trainer = Trainer(build_model(recipe.model, recipe.training, vocab_size, 0), recipe.training, 0)
    for step, batch in enumerate(alone(store, MIXTURE, 5 * 512, 32, 512, seed=9)):
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
    found = list(
        outcomes(
            trainer, [task], wanted, (2, 6), 5, lambda c: alone(store, c, 6 * 512, 32, 512, 0), 0
        )
    )
    assert [(o.category, o.step) for o in found] == [
        (category, step) for category in (MIXTURE, *wanted) for step in (2, 6)
    ]
    last = {o.category: o.losses[name] for o in found if o.step == 6}
    assert last["kind", "useful"] < last[MIXTURE] < last["kind", "noise"]
    assert all(torch.equal(before[n], p) for n, p in trainer.lm.parameters.items())


def test_a_snapshot_puts_back_parameters_and_moments(folder: Path, store: Store) -> None:
    trainer = make_trainer(folder, store)
    restore = snapshot(trainer)
    stream = list(alone(store, MIXTURE, 2 * 512, 32, 512, seed=1))
    first = [trainer.step(5 + i, batch).loss for i, batch in enumerate(stream)]
    restore()
    assert [trainer.step(5 + i, batch).loss for i, batch in enumerate(stream)] == first


def test_an_enriched_mixture_differs_in_the_replaced_sequences_only(store: Store) -> None:
    sizes = 4 * 512, 32, 512, 3
    base = list(enriched(store, MIXTURE, 0.25, *sizes))
    assert [batch.tokens_BT.tolist() for batch in base] == [
        batch.tokens_BT.tolist() for batch in alone(store, MIXTURE, *sizes)
    ]
    places = []
    for kind in ("useful", "noise"):
        mixed = list(enriched(store, ("kind", kind), 0.25, *sizes))
        own = list(alone(store, ("kind", kind), *sizes))
        assert len(mixed) == 4
        for one, two, three in zip(base, mixed, own, strict=True):
            rows = (one.tokens_BT != two.tokens_BT).any(dim=1)
            assert 0 < rows.sum() <= 4  # a quarter of 16; a sequence may be the same by chance
            assert torch.equal(two.tokens_BT[rows], three.tokens_BT[rows])
            assert torch.equal(two.labels_BT[rows], three.labels_BT[rows])
            assert two.positions_BT is not None
            assert three.positions_BT is not None
            assert torch.equal(two.positions_BT[rows], three.positions_BT[rows])
            assert torch.equal(one.labels_BT[~rows], two.labels_BT[~rows])
            places.append(rows.tolist())
    for one_kind, other in zip(places[:4], places[4:], strict=True):  # the same for every category
        assert sum(a or b for a, b in zip(one_kind, other, strict=True)) <= 4


def test_more_of_what_helps_lowers_the_loss(folder: Path, store: Store) -> None:
    trainer = make_trainer(folder, store)
    (name, config), *_ = planted.recipe(folder).rewards.tasks.items()
    task = batched(make_task(name, config, store.tokenizer, 32, 0), 4)

    def stream(category: Category) -> Iterator[TokenBatch]:
        return enriched(store, category, 0.5, 8 * 512, 32, 512, 1)

    wanted = [("kind", kind) for kind in planted.KINDS]
    found = {
        o.category: o.losses[name] for o in outcomes(trainer, [task], wanted, [8], 5, stream, 1)
    }
    assert found["kind", "useful"] < found[MIXTURE] < found["kind", "noise"]
