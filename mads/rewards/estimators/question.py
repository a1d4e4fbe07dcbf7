"""What an estimator is asked and what it answers; batches of documents and their losses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mads.config import RewardsConfig
from mads.rewards.direction import Direction, Vector
from mads.training.data import padded_batch
from mads.training.model import LanguageModel, TokenBatch
from mads.training.trainer import OptimizerState
from mads.types import Floats

Sequences = Sequence[NDArray[np.int64]]
"""One document's tokens (at most one context window) each."""


@dataclass(frozen=True, slots=True)
class Question:
    """N documents whose rewards are wanted in D directions, at one point of the training.

    ``directions`` are one per reference task, or a single one of all of them together.
    """

    lm: LanguageModel
    documents: Sequences
    directions: Sequence[Direction]
    optimizer: OptimizerState
    config: RewardsConfig
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """Rewards in D directions (positive = lowers the reference loss) and losses of N documents.

    Losses are in nats per token, of the document by itself.
    """

    reward_DN: Floats
    loss_N: Floats


def batches(documents: Sequences, size: int) -> Iterator[tuple[list[int], TokenBatch]]:
    """Yield documents of like length together, with their places in the input."""
    order = sorted(range(len(documents)), key=lambda i: len(documents[i]))
    for start in range(0, len(order), size):
        group = order[start : start + size]
        yield group, padded_batch([documents[i] for i in group], [1] * len(group))


def mean_losses(lm: LanguageModel, batch: TokenBatch) -> Tensor:
    """Return each sequence's mean loss in float64, shape (B,); 0 without labels."""
    loss_BT = lm.token_losses(batch).double()
    count_B = (batch.labels_BT >= 0).sum(dim=1).to(loss_BT.device)
    return loss_BT.sum(dim=1) / count_B.clamp(min=1)


def document_losses(lm: LanguageModel, documents: Sequences, batch_size: int) -> Floats:
    """Return each document's mean loss, in nats per token; ``batch_size`` is a process's."""
    world = lm.world
    loss_N = np.zeros(len(documents))
    with lm.evaluating(), torch.no_grad():
        for group, batch in batches(documents, batch_size * world.size):
            own = group[world.rank :: world.size]
            for share in batch.shares(world, batch_size):
                loss_N[own] = mean_losses(lm, share).cpu().numpy()[: len(own)]
    return world.sum(loss_N)


def document_gradients(lm: LanguageModel, documents: Sequences) -> Iterator[tuple[Vector, float]]:
    """Yield each document's gradient by parameter name, and its loss; one backward pass each.

    Of several processes the main one reads the document, and each is given its part of the
    gradient.
    """
    with lm.evaluating():
        for document in documents:
            for share in padded_batch([document], [1]).shares(lm.world, 1):
                loss = mean_losses(lm, share)[0]
                yield lm.gradients(loss), lm.world.total(float(loss.detach()))


@contextmanager
def parameters_kept(lm: LanguageModel) -> Iterator[Vector]:
    """Yield a copy of the parameters, and put them back bit for bit when the block ends."""
    kept = {name: part.clone() for name, part in lm.parts.items()}
    try:
        yield kept
    finally:
        put_back(lm, kept)


def put_back(lm: LanguageModel, kept: Vector) -> None:
    """Copy kept values into the parameters."""
    with torch.no_grad():
        for name, part in lm.parts.items():
            part.copy_(kept[name])


def relative_error(found: Floats, true: Floats, scaled: bool = False) -> float:
    """Return ‖a·found − true‖ / ‖true‖ with a = 1, or with the best a when ``scaled``."""
    length = float(np.linalg.norm(true))
    if not length > 0:
        return 0.0
    square = float((found * found).sum())
    factor = float((found * true).sum()) / square if scaled and square > 0 else 1.0
    return float(np.linalg.norm(factor * found - true)) / length
