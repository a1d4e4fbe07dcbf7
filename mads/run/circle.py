"""The circle, and the only place where the arrow turns back.

    select -> train U steps -> gather evidence -> update the strategy -> select -> ...

Round 0 selects by the strategy's start; every later round begins with the evidence that the
strategy needs. The circle knows of a model and of an optimizer's state, and nothing of how steps
are taken: `mads train`, `mads step` and a ``Session`` in somebody's own trainer all stand on it. A
complete round's folder holds everything that the next one needs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from mads.config import Recipe
from mads.layout import RunDir
from mads.run.alarms import Alarms, alarms
from mads.run.feedback import RoundFeedback, gather, groups_of, learn, spread_before
from mads.run.ledger import effort_of
from mads.run.reader import RunRound
from mads.run.records import Effort, Metrics, Record, RefreshRecord, RoundRecord
from mads.run.refresh import is_due, joined, refresh
from mads.run.schedule import round_bounds
from mads.run.watched import Watched
from mads.run.watcher import Watcher
from mads.sealed import write_sealed
from mads.seeds import derive
from mads.selection.bounds import with_shares
from mads.selection.plan import Cursors
from mads.selection.plan_file import Head, SavedPlan, write_selection
from mads.selection.rounds import part_tokens, select_round
from mads.store.store import Store
from mads.strategies.strategy import Evidence, Strategy
from mads.training.data import RoundData
from mads.training.model import LanguageModel, TokenBatch
from mads.training.trainer import OptimizerState
from mads.training.world import World
from mads.units import Budget

T = TypeVar("T")
Bounds = Callable[[int], tuple[int, int]]
WASTE = 1.5  # tokens selected per token read above which the user is told


class Learner(Protocol):
    """A model in training, and what its optimizer would use in a step."""

    @property
    def lm(self) -> LanguageModel:
        """The model."""

    def optimizer_state(self, step: int) -> OptimizerState:
        """What AdamW would use in an optimizer step."""


@dataclass(frozen=True, slots=True)
class _Picked:
    """What a round's selections hold: documents, tokens, and milliseconds by their first step."""

    num_docs: int
    num_tokens: int
    select_ms: Mapping[int, float]
    alarms: Alarms


class Circle:
    """A run's rounds; every process of the world goes through the same ones."""

    def __init__(
        self,
        store: Store,
        run: RunDir,
        recipe: Recipe,
        watcher: Watcher,
        world: World,
        strategy: Strategy,
        learner: Learner | None,
        bounds: Bounds | None = None,
    ) -> None:
        """Take a strategy at its start. Without a learner only round 0 can begin.

        ``bounds`` gives a round's first step and the first one after it; by default the recipe's.
        """
        self.store, self.dir, self.recipe = store, run, recipe  # the store as the round sees it
        self.watcher, self.world, self.strategy = watcher, world, strategy
        self.learner = learner
        self.bounds = bounds or (lambda number: round_bounds(number, recipe))
        self.watched = Watched.of(recipe, store.tokenizer)
        self.cursors = Cursors.start(len(store.cells))
        self.data: RoundData | None = None
        self.select_ms: Mapping[int, float] = {}
        self.metrics = Metrics(run.metrics)

    def take_up(self, number: int) -> None:
        """Go on from within a round, or from its end; raises DataError for a damaged one."""
        before = RunRound(self.dir.round(number), number, self.recipe)
        self.store = before.store(self.store)
        self.strategy, self.cursors = before.strategy, before.cursors(self.store)
        self.data = self._round_data(number)

    def last_batches(self, count: int) -> list[TokenBatch]:
        """Return up to ``count`` of the last batches of the round that was read."""
        assert self.data is not None
        first, stop = self.bounds(self.strategy.round)
        return [self.data.batch(step) for step in range(max(first, stop - count), stop)]

    def note(self, record: Record) -> None:
        """Append to metrics.jsonl."""
        if self.world.is_main:
            self.metrics.write(record)

    def begin_round(self, number: int, step: int) -> None:
        """Gather evidence, let the strategy learn, and select what the round reads."""
        if self.world.is_main:
            self.dir.round(number).plan.unlink(missing_ok=True)  # it marks a complete round
        refreshed = self._refresh(number)
        found: RoundFeedback | None = None
        if number > 0 and self.strategy.needs is Evidence.DOCUMENT_REWARDS:
            found = self._feedback(number, step)
            self.strategy = found.strategy
        elif number > 0 and self.strategy.needs is Evidence.CATEGORY_LOSSES:
            self._learn(number)
        elif number > 0:
            self.strategy = self.strategy.next_round()
        picked = self.world.broadcast(self._select(number) if self.world.is_main else None)
        assert picked is not None
        self.world.barrier()
        self.select_ms = picked.select_ms
        chosen = RunRound(self.dir.round(number), number, self.recipe)
        self.cursors = chosen.cursors(self.store)
        self.data = self._round_data(number)
        losses, effort = self.evaluate(found)
        record = RoundRecord(
            round=number,
            step=step,
            select_ms=sum(picked.select_ms.values()),
            num_docs=picked.num_docs,
            theta=self.strategy.theta,
            weights=self.strategy.weights,
            losses=losses,
            alarms=picked.alarms.counts or None,
            feedback=found.record if found else None,
            refresh=refreshed,
            effort=effort,
        )
        self.note(record)
        self.watcher.round(record)

    def evaluate(self, found: RoundFeedback | None) -> tuple[dict[str, float], Effort | None]:
        """Return the losses of all tasks, and what they and the round's rewards have cost."""
        if self.learner is None:
            return {}, None
        known = found.task_losses if found else {}
        begun, lm = time.perf_counter(), self.learner.lm
        losses = self._on_model(lambda: self.watched.losses(lm, known))
        seconds = time.perf_counter() - begun
        tasks = {name: task for name, task in self.watched.tasks.items() if name not in known}
        feedback = found.record if found else None
        references = self.watched.references
        return losses, effort_of(lm, self.recipe, tasks, references, seconds, feedback)

    def _on_model(self, work: Callable[[], T]) -> T:
        """Return what work on the model gives: of all processes, or of the main one alone.

        A model that is cut over the processes needs all of them; where each has a whole one, the
        others wait for what the main process finds.
        """
        assert self.learner is not None
        if self.world.is_alone or not self.learner.lm.world.is_alone:
            return work()
        found = self.world.broadcast(work() if self.world.is_main else None)
        assert found is not None
        return found

    def _refresh(self, number: int) -> RefreshRecord | None:
        """Fit the influence agent anew where it is due; every process goes on with what it gives.

        It comes before rewards are measured, so the new bins are probed by the same round: their
        weights rest on documents that the model has not been fitted to.
        """
        if not is_due(number, self.store, self.strategy, self.recipe):
            return None
        made: RefreshRecord | None = None
        if self.world.is_main:
            rounds = [RunRound(self.dir.round(n), n, self.recipe) for n in range(number)]
            own = self.dir.refresh(number)
            made = refresh(self.store, own, rounds, self.cursors, self.recipe, self.watcher.note)
        made = self.world.broadcast(made)
        if made is None:
            return None
        self.store = self.store.refreshed(self.dir.refresh(number))
        self.strategy = joined(self.strategy, self.store)
        self.cursors = Cursors.start(len(self.store.cells))
        return made

    def _learn(self, number: int) -> None:
        """Update the strategy by the training losses of the round before."""
        steps = self.metrics.steps_of(number - 1) if self.world.is_main else []
        updated = learn(self.strategy, self.world.broadcast(steps))
        for note in updated.notes:
            self.watcher.note(f"round {number}: {note}")
        self.strategy = updated.strategy

    def _feedback(self, number: int, step: int) -> RoundFeedback:
        """Measure rewards and keep them; every process computes the same update."""
        before = RunRound(self.dir.round(number - 1), number - 1, self.recipe)
        learner = self.learner
        assert learner is not None
        found = self._on_model(
            lambda: gather(
                self.store,
                learner.lm,
                learner.optimizer_state(step),
                self.watched.references,
                self.recipe,
                self.strategy,
                spread_before(self.store, before),
            )
        )
        if self.world.is_main:
            write_sealed(self.dir.round(number).rewards, found.table, compression="zstd")
        for note in found.notes:
            self.watcher.note(f"round {number}: {note}")
        return found

    def _select(self, number: int) -> _Picked:
        """Select what a round reads, and write its folder; plan.json marks a complete round."""
        start, stop = self.bounds(number)
        score_C = self.strategy.scores(self.store.cells)
        held = with_shares(self.recipe.selection, self.strategy.shares)
        recipe = replace(self.recipe, selection=held)
        chosen = select_round(self.store, score_C, self.cursors, recipe, number, (start, stop))
        needed = (stop - start) * self.recipe.training.batch_tokens
        folder = self.dir.round(number)
        seed = derive(self.recipe.seed, "round", number)
        head = Head(seed, self.recipe.selection.policy, Budget(needed))
        saved = write_selection(folder, self.store, self.strategy.to_json(), chosen, head)
        select_ms: Counter[int] = Counter()
        for one in chosen:
            assert one.step is not None
            select_ms[one.step] += 1000 * one.seconds  # type: ignore[assignment]
        num_tokens = sum(one.selection.num_tokens for one in chosen)
        if num_tokens > WASTE * needed:
            self.watcher.note(
                f"round {number}: {num_tokens:,} tokens were selected for {needed:,}, since parts "
                f"of documents have up to {part_tokens(self.recipe.training):,}; what does not fit "
                "is not read. A smaller training.part_tokens, or more steps from one selection to "
                "the next, waste less."
            )
        raised = self._alarms(number, saved)
        return _Picked(saved.num_docs, num_tokens, select_ms, raised)

    def _alarms(self, number: int, plan: SavedPlan) -> Alarms:
        """Return what should be known of a round's mixture, and tell it."""
        cells, before = self.store.cells, None
        if number > 0:
            earlier = RunRound(self.dir.round(number - 1), number - 1, self.recipe)
            before = earlier.read(self.store)
        found = alarms(cells, plan.tokens_by_cell(len(cells)), before)
        for note in found.notes:
            self.watcher.note(f"round {number}: {note}")
        return found

    def _round_data(self, number: int) -> RoundData:
        """Return the batches of a round from its selection.parquet."""
        one = RunRound(self.dir.round(number), number, self.recipe)
        names = ["doc", "first_token", "num_tokens", "step", "cell"]
        table = one.selection(names)
        doc_N, first_N, num_N, step_N, cell_N = (table[name].to_numpy() for name in names)
        _, stop = self.bounds(number)
        seed = derive(self.recipe.seed, "round", number)
        config = self.recipe.training
        group_N = groups_of(self.store.cells, self.strategy.losses_of, cell_N)
        return RoundData(self.store, doc_N, first_N, num_N, step_N, stop, config, seed, group_N)
