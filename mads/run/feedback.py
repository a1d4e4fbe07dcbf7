"""One round of evidence: rewards that are measured, or losses that training has met."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mads.config import INFLUENCE, Recipe
from mads.console.scores import console_cells
from mads.rewards.categories import Spread
from mads.rewards.competence import LIMIT
from mads.rewards.measure import RoundRewards, measure, spread_from
from mads.run.reader import RunRound
from mads.run.records import FeedbackRecord, StepRecord
from mads.seeds import derive
from mads.store.store import Store
from mads.strategies.strategy import Strategy, Updated
from mads.training.model import LanguageModel
from mads.training.task_loss import BatchedTask
from mads.training.trainer import OptimizerState
from mads.types import Cells, Floats, TrainingLosses


@dataclass(frozen=True, slots=True, eq=False)
class RoundFeedback:
    """What a round's feedback found: the next strategy, and what is kept and told of it."""

    strategy: Strategy
    table: pa.Table  # the rows of rewards.parquet
    record: FeedbackRecord
    task_losses: Mapping[str, float]  # of the reference tasks, nats per continuation token
    notes: tuple[str, ...]  # for the user to read


def gather(
    store: Store,
    lm: LanguageModel,
    optimizer: OptimizerState,
    tasks: Sequence[BatchedTask],
    recipe: Recipe,
    strategy: Strategy,
    spread: Spread | None = None,
) -> RoundFeedback:
    """Measure the rewards for the round after ``strategy``'s; ``optimizer`` is its first step's.

    ``spread`` is how far the rewards of the round before have spread, if that is known: with
    ``rewards.probe_tokens`` it decides how many documents of each category are probed. Nothing of
    the model changes. Raises DataError when the reference tasks give no direction, or when there
    is nothing to probe.
    """
    found = measure(
        store,
        lm,
        optimizer,
        tasks,
        recipe.rewards,
        recipe.training.context,
        derive(recipe.seed, "rewards", strategy.round + 1),
        spread,
        counted_agents(store, recipe),
    )
    updated = unsure(found.agreement, strategy) if recipe.rewards.competence else None
    updated = updated or strategy.updated(found.feedback)
    return RoundFeedback(
        strategy=updated.strategy,
        table=found.table,
        record=record_of(found, updated),
        task_losses=found.task_losses,
        notes=updated.notes + found.notes,
    )


def counted_agents(store: Store, recipe: Recipe) -> tuple[str, ...]:
    """Return the agents of ``console.agents``, and the run's own where there is one; () for all."""
    named = recipe.console.agents
    return (*named, INFLUENCE) if named and store.refresh else named


def spread_before(store: Store, before: RunRound) -> Spread | None:
    """Return how far a round's rewards have spread; None where nothing of it is asked or known."""
    table = before.rewards(["cell", "weight", "reward"])
    if table is None or not before.recipe.rewards.probe_tokens:
        return None
    own = before.store(store)  # whose cells the rewards name
    return spread_from(console_cells(own.cells, counted_agents(own, before.recipe)), table)


def unsure(agreement: float, strategy: Strategy) -> Updated | None:
    """Return the strategy as it was, a round later, while rewards do not repeat themselves.

    Once they have, the strategy is told everything: a rule weighs later rounds by itself.
    """
    if strategy.learned or math.isnan(agreement) or agreement >= LIMIT:
        return None
    why = f"two halves of the probed documents agree at {agreement:.2f} (less than {LIMIT:.2f})"
    note = (
        f"the strategy stays as it was: {why} on what helps. Where that goes on, raise "
        "rewards.probes_per_category, or begin later (training.first_update)."
    )
    return Updated(strategy.next_round(), why, {"unsure": 1}, (note,))


def record_of(found: RoundRewards, updated: Updated) -> FeedbackRecord:
    """Return what is noted of a round's rewards and of the update that follows."""
    known = all(
        math.isfinite(reward.mean) and math.isfinite(reward.stderr)
        for table in found.feedback.categories.values()
        for reward in table.values()
    )
    return FeedbackRecord(
        reward_s=found.seconds,
        probes=found.table.num_rows,
        probe_tokens=found.probe_tokens,
        refused=updated.refused,
        guards=updated.guards,
        agreement=found.agreement if known else None,
        oracle_error=found.oracle_error if math.isfinite(found.oracle_error) else None,
        rewards={
            agent: {name: (r.mean, r.stderr) for name, r in table.items()}
            for agent, table in found.feedback.categories.items()
        }
        if known
        else None,
        task_rewards={
            task: {a: {name: r.mean for name, r in t.items()} for a, t in tables.items()}
            for task, tables in found.per_task.items()
        }
        if known
        else None,
    )


def category_losses(
    names: Sequence[str], loss_G: Floats, tokens_G: Floats
) -> dict[str, tuple[float, ...]] | None:
    """Return a step's summed losses and labels of the categories that it has met."""
    both = zip(names, loss_G.tolist(), tokens_G.tolist(), strict=True)
    return {name: (loss, tokens) for name, loss, tokens in both if tokens} or None


def groups_of(cells: Cells, agent: str, cell_N: NDArray[np.uint32]) -> NDArray[np.int64] | None:
    """Return the categories that an agent gives to documents of N cells; None without an agent."""
    if not agent:
        return None
    category_C = cells.category_CA[:, cells.agents.index(agent)].astype(np.int64)
    group_N: NDArray[np.int64] = category_C[cell_N]
    return group_N


def learn(strategy: Strategy, steps: Sequence[StepRecord]) -> Updated:
    """Return a strategy after the steps of a round, whose losses are its evidence."""
    return strategy.updated(training_losses(strategy.losses_of, steps))


def training_losses(agent: str, steps: Sequence[StepRecord]) -> TrainingLosses:
    """Return the training losses of a round from its steps, added up in their order."""
    loss: dict[str, float] = {}
    tokens: dict[str, float] = {}
    for record in steps:
        for name, (lost, counted) in (record.category_losses or {}).items():
            loss[name] = loss.get(name, 0.0) + lost
            tokens[name] = tokens.get(name, 0.0) + counted
    return TrainingLosses(agent, loss, tokens)
