"""Each document's reward: the derivative of its loss along the reference direction.

Equation 3 with its sign mended: ``r = + g_refᵀ H⁻¹ g(x)``; positive = training on x lowers the
reference loss. Unit: nats per token and unit of parameter distance. Nothing is left changed:
parameters are put back bit for bit, gradients and optimizer are not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mads.config import RewardsConfig
from mads.rewards.direction import Vector, norm
from mads.training.data import padded_batch
from mads.training.model import LanguageModel, TokenBatch

Floats = NDArray[np.float64]
Sequences = Sequence[NDArray[np.int64]]
"""One document's tokens (at most one context window) each."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Rewards and losses (nats per token) of N documents."""

    reward_N: Floats
    loss_N: Floats


Estimator = Callable[[LanguageModel, Sequences, Vector, RewardsConfig], Measured]


def _batches(documents: Sequences, size: int) -> Iterator[tuple[list[int], TokenBatch]]:
    """Yield documents of like length together, with their places in the input."""
    order = sorted(range(len(documents)), key=lambda i: len(documents[i]))
    for start in range(0, len(order), size):
        group = order[start : start + size]
        yield group, padded_batch([documents[i] for i in group], [1] * len(group))


def _mean_losses(lm: LanguageModel, batch: TokenBatch) -> Tensor:
    """Return each sequence's mean loss in float64, shape (B,)."""
    loss_BT = lm.token_losses(batch).double()
    count_B = (batch.labels_BT >= 0).sum(dim=1).to(loss_BT.device)
    return loss_BT.sum(dim=1) / count_B


def document_losses(lm: LanguageModel, documents: Sequences, batch_size: int) -> Floats:
    """Return each document's mean loss, in nats per token."""
    loss_N = np.empty(len(documents))
    with lm.evaluating(), torch.no_grad():
        for group, batch in _batches(documents, batch_size):
            loss_N[group] = _mean_losses(lm, batch).cpu().numpy()
    return loss_N


def forward(
    lm: LanguageModel, documents: Sequences, direction: Vector, config: RewardsConfig
) -> Measured:
    """Central difference along v: ``r = [L(θ + εv) − L(θ − εv)] / 2ε``; two forward passes.

    ε is set so that ‖εv‖ / ‖θ‖ is ``config.epsilon``. The loss is the mean of both sides.
    """
    parameters = lm.parameters
    kept = {name: p.detach().clone() for name, p in parameters.items()}
    epsilon = config.epsilon * norm(kept) / norm(direction)

    def moved(sign: float) -> Floats:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(kept[name] + sign * epsilon * direction[name])
        return document_losses(lm, documents, config.batch_size)

    try:
        up_N, down_N = moved(+1.0), moved(-1.0)
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(kept[name])
    return Measured((up_N - down_N) / (2 * epsilon), (up_N + down_N) / 2)


def gradient(
    lm: LanguageModel, documents: Sequences, direction: Vector, config: RewardsConfig
) -> Measured:
    """``r = g(x)ᵀ v`` by one backward pass per document: slow and exact."""
    del config
    reward_N, loss_N = np.empty(len(documents)), np.empty(len(documents))
    with lm.evaluating():
        for i, document in enumerate(documents):
            loss = _mean_losses(lm, padded_batch([document], [1]))[0]
            reward_N[i] = sum(
                float((part.double() * direction[name].double()).sum())
                for name, part in lm.gradients(loss).items()
            )
            loss_N[i] = float(loss.detach())
    return Measured(reward_N, loss_N)


ESTIMATORS: dict[str, Estimator] = {"forward": forward, "gradient": gradient}


def relative_error(found_N: Floats, true_N: Floats) -> float:
    """Return ‖found − true‖ / ‖true‖."""
    scale = float(np.linalg.norm(true_N))
    return float(np.linalg.norm(found_N - true_N)) / scale if scale > 0 else 0.0
