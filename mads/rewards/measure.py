"""One round of feedback: probe documents, measure their rewards, average them per category."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mads.config import RewardsConfig
from mads.memory.store import Store
from mads.rewards.categories import Probes, category_rewards, choose_probes
from mads.rewards.direction import Vector, direction
from mads.rewards.estimators import ESTIMATORS, Measured, gradient, relative_error
from mads.rewards.tasks import Task
from mads.seeds import derive, shuffled, uniform
from mads.selection.query import category_columns
from mads.training.model import LanguageModel
from mads.types import CategoryRewards, Cells


@dataclass(frozen=True, slots=True)
class RoundRewards:
    """What a round's feedback says."""

    categories: CategoryRewards
    documents: pa.Table  # the rows of rewards.parquet
    task_losses: dict[str, float]  # nats per continuation token
    oracle_error: float  # relative error of the estimator against per-document gradients
    seconds: float


def measure(
    store: Store,
    lm: LanguageModel,
    moments: Vector,
    tasks: Sequence[Task],
    config: RewardsConfig,
    context: int,
    seed: int,
) -> RoundRewards:
    """Measure one round of rewards; nothing of the model, optimizer or random state changes.

    ``moments`` are Adam's bias-corrected second moments. Raises DataError when the reference
    tasks give no direction.
    """
    start = time.perf_counter()
    probes = choose_probes(store.cells, config.probes_per_category, derive(seed, "probes"))
    doc_N = store.order_docs(probes.row_N)
    windows = [_window(store, int(doc), context, seed) for doc in doc_N]
    keep = np.array([len(window) > 1 for window in windows])  # one token has no next one
    windows = [window for window in windows if len(window) > 1]
    probes = Probes(probes.cell_N[keep], probes.row_N[keep], probes.weight_N[keep])
    vector, losses = direction(lm, tasks, moments, config.damping)
    measured = ESTIMATORS[config.estimator](lm, windows, vector, config)
    error = _oracle_error(lm, windows, vector, config, measured, seed)
    return RoundRewards(
        categories=category_rewards(store.cells, probes.cell_N, probes.weight_N, measured.reward_N),
        documents=_table(store.cells, doc_N[keep], probes, measured),
        task_losses=losses,
        oracle_error=error,
        seconds=time.perf_counter() - start,
    )


def _window(store: Store, doc: int, context: int, seed: int) -> NDArray[np.int64]:
    """Return one context window from a seeded place of a document."""
    reader, row = store.tokens(doc)
    spare = max(int(reader.lengths_N[row]) - context, 0)
    place = uniform(np.array([doc], np.uint64), derive(seed, "window"))[0]
    first = int(place * (spare + 1))
    return reader.row(row, first, first + context)


def _oracle_error(
    lm: LanguageModel,
    windows: Sequence[NDArray[np.int64]],
    vector: Vector,
    config: RewardsConfig,
    measured: Measured,
    seed: int,
) -> float:
    """Compare a few documents with the exact estimator."""
    if config.estimator == "gradient" or not config.oracle_docs or not windows:
        return 0.0
    order = shuffled(np.arange(len(windows), dtype=np.uint64), derive(seed, "oracle"))
    chosen = order[: config.oracle_docs]
    true = gradient(lm, [windows[i] for i in chosen], vector, config)
    return relative_error(measured.reward_N[chosen], true.reward_N)


def _table(cells: Cells, doc_N: NDArray[np.uint64], probes: Probes, measured: Measured) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "doc": pa.array(doc_N, pa.uint64()),
        "cell": pa.array(probes.cell_N, pa.uint32()),
        "reward": pa.array(measured.reward_N, pa.float64()),
        "loss": pa.array(measured.loss_N, pa.float64()),
        "weight": pa.array(probes.weight_N, pa.float64()),
    }
    return pa.table({**columns, **category_columns(cells, probes.cell_N)})
