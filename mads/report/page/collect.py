"""What a page shows of a run, finished or still going on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mads.console.bayes import GAIN, Belief
from mads.console.mirror import Mixture
from mads.errors import DataError
from mads.layout import RunDir
from mads.report.page.documents import RewardedDocument, rewarded_documents
from mads.run.folder import RunProvenance
from mads.run.ledger import Ledger, ledger_of
from mads.run.reader import Run, RunRound, open_store
from mads.run.records import EndRecord, FeedbackRecord, RoundRecord, StepRecord
from mads.run.result import whole_result
from mads.run.schedule import strategy_name
from mads.selection.composition import Composition, shares
from mads.store.store import Store
from mads.strategies.weighted import Weighted
from mads.types import Floats

Table = Mapping[str, Mapping[str, float]]
"""Agent -> category -> number."""


@dataclass(frozen=True, slots=True)
class RoundData:
    """A round that has begun; ``weight_error`` has standard errors of w, where they are known."""

    record: RoundRecord
    weight_error: Table


@dataclass(frozen=True, slots=True)
class Effects:
    """What a rule holds of each category's effect: mean and standard deviation."""

    mean: Table
    deviation: Table


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds and tokens of the run so far."""

    training_s: float
    training_tokens: int
    reward_s: float
    reward_tokens: int
    select_s: float
    ledger: Ledger


@dataclass(frozen=True, slots=True)
class StoreData:
    """What only the store knows: compositions, and how far its agents agree."""

    docs: Composition  # shares of the corpus's documents
    tokens: Composition  # and of its tokens
    read: Mapping[int, Composition]  # round -> shares of what it selects
    agreement: Mapping[tuple[str, str], float]  # Cramér's V
    documents: tuple[RewardedDocument, ...]  # most rewarded first
    documents_round: int | None


@dataclass(frozen=True, slots=True)
class RunData:
    """All that a page shows of a run."""

    name: str
    ended: bool
    steps_done: int
    steps: int
    batch_tokens: int
    strategy: str
    rule: str
    oracle_docs: int  # probes that are measured a second time, exactly
    training: tuple[tuple[int, float], ...]  # step, loss
    losses: Mapping[str, tuple[tuple[int, float], ...]]  # task -> step, loss
    held_out: frozenset[str]  # those that are evaluation tasks
    rounds: tuple[RoundData, ...]
    effects: Effects | None
    cost: Cost
    provenance: RunProvenance
    recipe: str  # its text
    store: StoreData | None

    @property
    def measured(self) -> list[tuple[int, FeedbackRecord]]:
        """The rounds whose rewards were measured."""
        records = [one.record for one in self.rounds]
        return [(r.round, r.feedback) for r in records if r.feedback is not None]


def collect(path: Path, store_path: Path | None) -> RunData:
    """Read a run, and with a store what only it knows.

    Raises UsageError or DataError when one of them is not there, was changed, or is of another.
    """
    run = Run(path)
    store = None if store_path is None else _store_of(store_path, run)
    recipe, records = run.recipe, run.records
    steps = [record for record in records if isinstance(record, StepRecord)]
    begun = [record for record in records if isinstance(record, RoundRecord)]
    held = [record for record in records if isinstance(record, (RoundRecord, EndRecord))]
    names = dict.fromkeys(name for record in held for name in record.losses)
    rounds = run.rounds
    return RunData(
        name=_name(path.resolve()),
        ended=whole_result(RunDir(path).result) is not None,
        steps_done=steps[-1].step + 1 if steps else 0,
        steps=recipe.training.steps,
        batch_tokens=recipe.training.batch_tokens,
        strategy=strategy_name(recipe),
        rule=recipe.console.rule,
        oracle_docs=recipe.rewards.oracle_docs,
        training=tuple((record.step, record.loss) for record in steps),
        losses={
            name: tuple((r.step, r.losses[name]) for r in held if name in r.losses)
            for name in names
        },
        held_out=frozenset(recipe.evaluation.tasks) & frozenset(names),
        rounds=_rounds(begun, rounds),
        effects=_effects(rounds[-1]) if rounds else None,
        cost=_cost(steps, begun, ledger_of(records)),
        provenance=run.provenance,
        recipe=run.dir.recipe.read_text(encoding="utf-8"),
        store=None if store is None else _store_data(_as_last_seen(store, rounds), rounds),
    )


def _name(path: Path) -> str:
    """Return how a run is called: by its folder, or by its arm and seed."""
    return f"{path.parent.name}/{path.name}" if path.name.startswith("seed-") else path.name


def _store_of(path: Path, run: Run) -> Store:
    store = open_store(path, run.dir.root)
    if store.fingerprint != run.provenance.store:
        raise DataError(
            f"{run.dir.root} was trained on another store: found {run.provenance.store[:16]}, "
            f"{path} is {store.fingerprint[:16]}. Give that store as --store, or none."
        )
    return store


def _rounds(begun: list[RoundRecord], complete: list[RunRound]) -> tuple[RoundData, ...]:
    files = {one.number: one for one in complete}
    return tuple(
        RoundData(record, _weight_error(files[record.round]) if record.round in files else {})
        for record in begun
    )


def _belief(one: RunRound) -> tuple[Belief | None, Weighted | None]:
    """Return what the rule of a round believes, with the strategy that it belongs to."""
    strategy = one.strategy
    if not isinstance(strategy, Weighted):
        return None, None
    memory = strategy.state.memory
    found = memory.belief if isinstance(memory, Mixture) else memory
    return (found if isinstance(found, Belief) else None), strategy


def _deviations(belief: Belief, weights: Table) -> dict[str, dict[str, float]]:
    return {
        agent: {
            name: math.sqrt(max(belief.covariance[key][key], 0.0))
            for name in table
            if (key := f"{agent}/{name}") in belief.mean
        }
        for agent, table in weights.items()
    }


def _weight_error(one: RunRound) -> Table:
    """Return standard errors of w under ``bayes``, w = 1 + GAIN · effect / θ; else nothing."""
    belief, strategy = _belief(one)
    if belief is None or strategy is None or strategy.state.rule != "bayes":
        return {}
    deviation = _deviations(belief, strategy.weights)
    return {
        agent: {name: GAIN * sd / strategy.theta[agent] for name, sd in table.items()}
        for agent, table in deviation.items()
    }


def _effects(one: RunRound) -> Effects | None:
    belief, strategy = _belief(one)
    if belief is None or strategy is None:
        return None
    deviation = _deviations(belief, strategy.weights)
    mean = {
        agent: {name: belief.mean[f"{agent}/{name}"] for name in table}
        for agent, table in deviation.items()
    }
    return Effects(mean, deviation)


def _cost(steps: list[StepRecord], rounds: list[RoundRecord], ledger: Ledger) -> Cost:
    feedback = [record.feedback for record in rounds if record.feedback is not None]
    return Cost(
        training_s=math.fsum(r.tokens / r.tokens_per_s for r in steps if r.tokens_per_s > 0),
        training_tokens=sum(record.tokens for record in steps),
        reward_s=math.fsum(one.reward_s for one in feedback),
        reward_tokens=sum(one.probe_tokens for one in feedback),
        select_s=ledger.select.seconds,
        ledger=ledger,
    )


def _as_last_seen(store: Store, rounds: list[RunRound]) -> Store:
    """Return the store with the generation of the last round, which may have one more agent."""
    return rounds[-1].store(store) if rounds else store


def _store_data(store: Store, rounds: list[RunRound]) -> StoreData:
    cells = store.cells
    number, documents = rewarded_documents(store, rounds)
    return StoreData(
        docs=shares(cells, cells.num_docs_C),
        tokens=shares(cells, cells.num_tokens_C),
        read={one.number: one.read(store) for one in rounds},
        agreement=agreement(store),
        documents=documents,
        documents_round=number,
    )


def agreement(store: Store) -> dict[tuple[str, str], float]:
    """Return Cramér's V of each two agents' labels over the corpus's documents."""
    cells, found = store.cells, {}
    for i, one in enumerate(cells.agents):
        for j, other in enumerate(cells.agents):
            size = len(cells.categories[one]), len(cells.categories[other])
            counts_JK = np.zeros(size)
            np.add.at(
                counts_JK, (cells.category_CA[:, i], cells.category_CA[:, j]), cells.num_docs_C
            )
            found[one, other] = cramers_v(counts_JK)
    return found


def cramers_v(counts_JK: Floats) -> float:
    """Return Cramér's V of a table of counts: √(χ² / (n · (min(J, K) − 1))); 0 = independent.

    Categories that never occur do not count; NaN when one side has a single category.
    Source: Cramér 1946, section 21.9.
    """
    counts_JK = counts_JK[counts_JK.sum(axis=1) > 0][:, counts_JK.sum(axis=0) > 0]
    total, least = counts_JK.sum(), min(counts_JK.shape, default=0) - 1
    if least < 1:
        return math.nan
    expected_JK = np.outer(counts_JK.sum(axis=1), counts_JK.sum(axis=0)) / total
    chi2 = float(((counts_JK - expected_JK) ** 2 / expected_JK).sum())
    return min(math.sqrt(chi2 / (total * least)), 1.0)
