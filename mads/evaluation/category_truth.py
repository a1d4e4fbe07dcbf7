"""The truth about a category: train copies of a model with more of it, and on the mixture.

    truth of a category = loss after K steps on the mixture - loss after K steps with more of it

Positive = more of the category lowers the loss. Either all is read from it alone (``alone``), or a
share of the mixture's sequences is replaced by it while the others and the order stay as they are
(``enriched``), which is what a selection can do and is paired, so its noise is small. All read the
same number of tokens, from one context window of each document, in batches of the run's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from mads.rewards.measure import window
from mads.seeds import derive, shuffled
from mads.store.store import Store
from mads.training.model import NO_LABEL, TokenBatch
from mads.training.task_loss import BatchedTask, task_loss
from mads.training.trainer import Trainer

MIXTURE = ("", "")
Category = tuple[str, str]  # agent and category; MIXTURE is the whole corpus


@dataclass(frozen=True)
class Outcome:
    """Losses of the tasks after ``step`` steps on one category, with one seed."""

    category: Category
    seed: int
    step: int
    losses: dict[str, float]


def categories_of(store: Store, least_docs: int) -> list[Category]:
    """Return the categories with enough documents to train on."""
    cells, found = store.cells, []
    for agent, names in cells.categories.items():
        docs = cells.by_category(agent, cells.num_docs_C)
        found += [(agent, name) for name, n in zip(names, docs, strict=True) if n >= least_docs]
    return found


def rows_of(store: Store, category: Category) -> NDArray[np.int64]:
    """Return all rows of the index's order that hold documents of a category."""
    cells = store.cells
    here = np.ones(len(cells), bool)
    if category != MIXTURE:
        agent, name = category
        index = cells.categories[agent].index(name)
        here = cells.category_CA[:, cells.agents.index(agent)] == index
    return np.concatenate(
        [
            np.arange(f, f + n)
            for f, n in zip(cells.first_row_C[here], cells.num_docs_C[here], strict=True)
        ]
    )


def alone(
    store: Store, category: Category, tokens: int, context: int, batch_tokens: int, seed: int
) -> Iterator[TokenBatch]:
    """Yield batches of windows of a category's seeded documents, until ``tokens`` are read."""
    rows = rows_of(store, category)
    order = rows[shuffled(rows.astype(np.uint64), derive(seed, "truth", *category))]
    stream: list[NDArray[np.int64]] = []
    total = at = 0
    while total < tokens:  # a small category is read again
        docs = store.order.docs(np.sort(order[at : at + 256]))
        at = (at + 256) if at + 256 < len(order) else 0
        found = [window(store, int(doc), context, derive(seed, "window", at)) for doc in docs]
        stream += found
        total += sum(len(part) for part in found)
    flat = np.concatenate(stream)[:tokens].reshape(-1, context)
    places = np.concatenate([np.arange(len(part)) for part in stream])[:tokens]
    mixed = shuffled(np.arange(len(flat), dtype=np.uint64), derive(seed, "order"))
    flat, places = flat[mixed], places.reshape(-1, context)[mixed]
    labels = np.full_like(flat, NO_LABEL)
    labels[:, :-1] = np.where(places[:, 1:] == 0, NO_LABEL, flat[:, 1:])
    size = batch_tokens // context
    for first in range(0, len(flat), size):
        part = [torch.from_numpy(a[first : first + size].copy()) for a in (flat, labels, places)]
        yield TokenBatch(part[0], part[1], part[2])


def enriched(
    store: Store,
    category: Category,
    share: float,
    tokens: int,
    context: int,
    batch_tokens: int,
    seed: int,
) -> Iterator[TokenBatch]:
    """Yield the mixture's batches with a share of the sequences of each from the category instead.

    Which of them is the same for every category; ``MIXTURE`` itself is left as it is.
    """
    sizes = tokens, context, batch_tokens, seed
    others = alone(store, category, *sizes) if category != MIXTURE else None
    for number, batch in enumerate(alone(store, MIXTURE, *sizes)):
        if others is None:
            yield batch
            continue
        count = len(batch.tokens_BT)
        order = shuffled(np.arange(count, dtype=np.uint64), derive(seed, "enriched", number))
        yield replaced(batch, next(others), order[: round(share * count)])


def replaced(batch: TokenBatch, other: TokenBatch, rows: NDArray[np.int64]) -> TokenBatch:
    """Return a batch in which the given sequences are those of another batch."""
    found = []
    for one, two in zip(
        (batch.tokens_BT, batch.labels_BT, batch.positions_BT),
        (other.tokens_BT, other.labels_BT, other.positions_BT),
        strict=True,
    ):
        assert one is not None
        assert two is not None
        mixed = one.clone()
        mixed[rows] = two[rows]
        found.append(mixed)
    return TokenBatch(found[0], found[1], found[2])


def snapshot(trainer: Trainer) -> Callable[[], None]:
    """Return a function that puts parameters and optimizer back."""
    parameters = trainer.lm.parameters
    kept = {name: p.detach().clone() for name, p in parameters.items()}
    moments = {
        name: {key: value.clone() for key, value in trainer.optimizer.state[p].items()}
        for name, p in parameters.items()
    }

    def restore() -> None:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(kept[name])
                for key, value in trainer.optimizer.state[parameter].items():
                    value.copy_(moments[name][key])

    return restore


def outcomes(
    trainer: Trainer,
    tasks: Sequence[BatchedTask],
    categories: Sequence[Category],
    marks: Sequence[int],
    step: int,
    stream: Callable[[Category], Iterable[TokenBatch]],
    seed: int,
) -> Iterator[Outcome]:
    """Train a copy on each category's stream and the mixture's; the trainer is as before then.

    ``marks`` are the numbers of steps after which the losses of the tasks are taken, the last of
    them the last step; ``step`` is the optimizer step of the run at which the copies begin.
    """
    restore = snapshot(trainer)
    for category in (MIXTURE, *categories):
        try:
            for number, batch in enumerate(islice(stream(category), marks[-1]), start=1):
                trainer.step(step + number - 1, batch)
                if number in marks:
                    losses = {task.name: task_loss(trainer.lm, task) for task in tasks}
                    yield Outcome(category, seed, number, losses)
        finally:
            restore()
