"""One round of feedback: probe documents, measure their rewards, average them per category."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mads.config import RewardsConfig
from mads.console.scores import console_cells
from mads.rewards.categories import (
    Probes,
    Spread,
    adapted_sizes,
    category_rewards,
    choose_probes,
    equal_sizes,
    spread_of,
)
from mads.rewards.combine import combined
from mads.rewards.competence import agreement
from mads.rewards.direction import reference
from mads.rewards.estimators import SAME_UNIT, estimate
from mads.rewards.estimators.forward import epsilon_of
from mads.rewards.estimators.gradient import gradient
from mads.rewards.estimators.question import Measured, Question, relative_error
from mads.rewards.sections import ForwardConfig
from mads.seeds import derive, shuffled, uniform
from mads.selection.take import category_columns
from mads.store.store import Store
from mads.training.model import LanguageModel
from mads.training.task_loss import BatchedTask
from mads.training.trainer import OptimizerState
from mads.types import CategoryRewards, Cells, DocumentRewards, Feedback, Floats

REWARDS_SCHEMA = pa.schema(
    {
        "doc": pa.uint64(),
        "cell": pa.uint32(),
        "reward": pa.float64(),
        "loss": pa.float64(),
        "weight": pa.float64(),  # 1 / sampling rate
    }
)
"""The columns of rewards.parquet that every run has.

A column ``reward_TASK`` for each of several reference tasks and a category column per agent follow.
"""
FARTHER = 3
ORACLE_LIMIT = 0.05  # relative error of an estimator above which the user is told


@dataclass(frozen=True, slots=True)
class RoundRewards:
    """What a round's feedback says."""

    feedback: Feedback
    per_task: Mapping[str, CategoryRewards]  # by reference task; empty with per_task = false
    table: pa.Table  # the rows of rewards.parquet
    task_losses: dict[str, float]  # nats per continuation token
    agreement: float  # of two halves of the documents (see competence.py)
    oracle_error: float  # relative error of the estimator against per-document gradients
    probe_tokens: int
    seconds: float
    notes: tuple[str, ...] = ()  # for the user to read


def measure(
    store: Store,
    lm: LanguageModel,
    optimizer: OptimizerState,
    tasks: Sequence[BatchedTask],
    config: RewardsConfig,
    context: int,
    seed: int,
    spread: Spread | None = None,
    agents: Sequence[str] = (),
) -> RoundRewards:
    """Measure one round of rewards; nothing of the model, optimizer or random state changes.

    ``spread`` is the standard deviation of rewards within categories, as far as it is known; with
    ``config.probe_tokens`` it decides how many documents of each are probed. ``agents`` are those
    whose categories are probed, all without. Raises DataError when
    the reference tasks give no direction, or when there is nothing to probe.
    """
    start = time.perf_counter()
    cells = console_cells(store.cells, agents)
    wanted = equal_sizes(cells, config.probes_per_category)
    if config.probe_tokens:
        wanted = adapted_sizes(cells, spread or {}, config.probe_tokens, context)
    probes, doc_N, windows = read_probes(
        store, choose_probes(cells, wanted, derive(seed, "probes")), context, seed
    )
    moments = optimizer.second_moments()
    with lm.feedback_in(config.precision):
        target = reference(lm, tasks, moments, config.damping, config.per_task and len(tasks) > 1)
        question = Question(
            lm, windows, target.directions, optimizer, config, derive(seed, "estimator")
        )
        measured, error = checked(question)
    if config.placebo:
        order = shuffled(np.arange(len(windows), dtype=np.uint64), derive(seed, "placebo"))
        measured = replace(measured, reward_DN=measured.reward_DN[:, order])
    weight_D = np.array([direction.weight for direction in target.directions])
    reward_N = combined(measured.reward_DN, weight_D, config.combine)
    rewards = {
        direction.name: reward_n
        for direction, reward_n in zip(target.directions, measured.reward_DN, strict=True)
        if len(target.directions) > 1
    }
    cell_N, weight_N = probes.cell_N, probes.weight_N
    documents = DocumentRewards(
        cells.agents,
        cells.categories,
        cells.category_CA[cell_N],
        reward_N,
        weight_N,
        cells.num_tokens_C[cell_N] / cells.num_docs_C[cell_N],
    )
    return RoundRewards(
        feedback=Feedback(category_rewards(cells, cell_N, weight_N, reward_N), documents),
        agreement=agreement(documents, derive(seed, "halves")),
        per_task={
            name: category_rewards(cells, cell_N, weight_N, values)
            for name, values in rewards.items()
        },
        table=_table(store.cells, doc_N, probes, reward_N, measured.loss_N, rewards),
        task_losses=target.losses,
        oracle_error=error,
        probe_tokens=sum(len(window) for window in windows),
        seconds=time.perf_counter() - start,
        notes=_notes(config.estimator, error),
    )


def read_probes(
    store: Store, probes: Probes, context: int, seed: int
) -> tuple[Probes, NDArray[np.uint64], list[NDArray[np.int64]]]:
    """Return the probes that can be measured, their documents and one window of each."""
    doc_N = store.order.docs(probes.row_N)
    windows = [window(store, int(doc), context, seed) for doc in doc_N]
    keep = np.array([len(part) > 1 for part in windows], bool)  # one token has no next one
    return (
        Probes(probes.cell_N[keep], probes.row_N[keep], probes.weight_N[keep]),
        doc_N[keep],
        [part for part in windows if len(part) > 1],
    )


def window(store: Store, doc: int, context: int, seed: int) -> NDArray[np.int64]:
    """Return one context window from a seeded place of a document."""
    reader, row = store.tokens(doc)
    spare = max(reader.length(row) - context, 0)
    place = uniform(np.array([doc], np.uint64), derive(seed, "window"))[0]
    first = int(place * (spare + 1))
    return reader.row(row, first, first + context)


def checked(question: Question) -> tuple[Measured, float]:
    """Return what the estimator says, and how far it is off the oracle.

    Where ``forward`` is too far off, it is tried once more with three times the ε: in losses of
    low precision, or of a large model, a small step drowns. The better of the two counts.
    """
    found = estimate(question)
    error = _oracle_error(question, found)
    config = question.config
    if not error > ORACLE_LIMIT or not isinstance(config, ForwardConfig):
        return found, error
    farther = min(FARTHER * epsilon_of(config, question.lm), 0.1)
    again = replace(question, config=replace(config, epsilon=farther))
    second = estimate(again)
    second_error = _oracle_error(again, second)
    return (second, second_error) if second_error < error else (found, error)


def _oracle_error(question: Question, measured: Measured) -> float:
    """Compare a few documents with the exact estimator.

    Estimators with a unit of their own are compared after the best rescaling of each direction.
    """
    name, number = question.config.estimator, question.config.oracle_docs
    if name == "gradient" or not number:
        return 0.0
    order = shuffled(
        np.arange(len(question.documents), dtype=np.uint64), derive(question.seed, "oracle")
    )
    chosen = order[:number]
    true = gradient(replace(question, documents=[question.documents[i] for i in chosen]))
    return max(
        relative_error(found_N[chosen], true_N, scaled=name not in SAME_UNIT)
        for found_N, true_N in zip(measured.reward_DN, true.reward_DN, strict=True)
    )


def _notes(estimator: str, error: float) -> tuple[str, ...]:
    """Return what the user should know of the estimator's error."""
    if not error > ORACLE_LIMIT or estimator not in SAME_UNIT:
        return ()
    return (
        f"the {estimator} estimator is {error:.0%} off the exact gradients. Try another "
        'rewards.epsilon or rewards.estimator = "gradient".',
    )


def _table(
    cells: Cells,
    doc_N: NDArray[np.uint64],
    probes: Probes,
    reward_N: Floats,
    loss_N: Floats,
    rewards: Mapping[str, Floats],
) -> pa.Table:
    arrays = doc_N, probes.cell_N, reward_N, loss_N, probes.weight_N
    columns = {
        field.name: pa.array(array, field.type)
        for field, array in zip(REWARDS_SCHEMA, arrays, strict=True)
    }
    by_task = {f"reward_{name}": pa.array(v, pa.float64()) for name, v in rewards.items()}
    return pa.table({**columns, **by_task, **category_columns(cells, probes.cell_N)})


def spread_from(cells: Cells, table: pa.Table) -> Spread:
    """Return the spread of rewards within categories from the rows of a rewards.parquet."""
    columns = (table[name].to_numpy() for name in ("cell", "weight", "reward"))
    cell_N, weight_N, reward_N = columns
    return spread_of(category_rewards(cells, cell_N.astype(np.int64), weight_N, reward_N))
