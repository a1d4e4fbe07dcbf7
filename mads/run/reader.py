"""Reading a run, finished or still going on: the twin of ``Store``."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from mads.config import Recipe
from mads.errors import DataError, UsageError
from mads.files import file_sha256, read_sealed_json, unreadable
from mads.layout import RoundDir, RunDir, check_kind
from mads.recipe import load_recipe
from mads.run.folder import RunProvenance, read_provenance
from mads.run.records import EndRecord, Metrics, Record, RoundRecord, StepRecord
from mads.run.result import TrainResult, read_result
from mads.run.schedule import strategy_name
from mads.selection.composition import Composition, shares
from mads.selection.plan import Cursors
from mads.selection.plan_file import (
    SavedPlan,
    check_plan,
    load_plan,
    read_rewards,
    read_selection,
)
from mads.store.store import Store
from mads.strategies import read_strategy
from mads.strategies.strategy import Strategy
from mads.types import MeasuredRound


@dataclass(frozen=True, slots=True)
class RunRound:
    """A complete round of a run; each file is checked when it is read."""

    dir: RoundDir
    number: int
    recipe: Recipe

    @property
    def remedy(self) -> str:
        """What to do when a file of the round is damaged."""
        return (
            "Put the name of a checkpoint before this round into checkpoints/latest, and run the "
            "same `mads train` again; it makes the round anew."
        )

    @property
    def strategy(self) -> Strategy:
        """The strategy whose scores the selection follows.

        Raises DataError when console.json is missing or damaged, or of another round or strategy.
        """
        found = read_strategy(self.dir.console, self.recipe)
        expected = strategy_name(self.recipe)
        if (found.name, found.round) != (expected, self.number):
            raise DataError(
                f"{self.dir.console} is of another round: found {found.name} in round "
                f"{found.round}, expected {expected} in round {self.number}. {self.remedy}"
            )
        return found

    def store(self, store: Store) -> Store:
        """Return the store with the generation that the round's cells are of.

        That is the store's own one, or one that the run has made. Raises DataError when the plan,
        or what the run has made, is damaged or of another store.
        """
        return self._own(store, load_plan(self.dir.plan))

    def _own(self, store: Store, plan: SavedPlan) -> Store:
        if plan.refresh == store.refresh:
            return store
        run = RunDir(self.dir.root.parent.parent)
        return store.base.refreshed(run.refresh(plan.refresh)) if plan.refresh else store.base

    def plan(self, store: Store) -> SavedPlan:
        """Return the plan; raises DataError when it is damaged or of another store."""
        return self._checked(store)[1]

    def _checked(self, store: Store) -> tuple[Store, SavedPlan]:
        """Return the store as ``store`` does, and the plan, from one look at the file."""
        plan = load_plan(self.dir.plan)
        own = self._own(store, plan)
        check_plan(plan, self.dir.plan, own)
        if plan.round != self.number:
            raise DataError(
                f"{self.dir.plan} is of another round: found {plan.round}, expected "
                f"{self.number}. {self.remedy}"
            )
        return own, plan

    def read(self, store: Store) -> Composition:
        """Return how what the round reads is shared by categories, in tokens."""
        own, plan = self._checked(store)
        return shares(own.cells, plan.tokens_by_cell(len(own.cells)))

    def cursors(self, store: Store) -> Cursors:
        """Return the cursors after the round's selections."""
        return self.plan(store).cursors_after

    def selection(self, columns: list[str] | None = None) -> pa.Table:
        """Return the rows of selection.parquet; raises DataError when it was changed."""
        plan = load_plan(self.dir.plan)
        return read_selection(self.dir, plan, columns)

    def rewards(self, columns: list[str] | None = None) -> pa.Table | None:
        """Return the rows of rewards.parquet, None without; raises DataError when changed."""
        plan = load_plan(self.dir.plan)
        if self.dir.rewards.name not in plan.files:
            return None
        return read_rewards(self.dir, plan, columns)


class Run:
    """What `mads train` wrote, or is writing."""

    def __init__(self, root: Path) -> None:
        """Open a run; raises UsageError when it is not there, DataError when it is no run."""
        self.dir = RunDir(root)
        check_kind(root, "a run")
        if not self.dir.provenance.is_file():
            raise DataError(
                f"{root} is not a run: it has no {self.dir.provenance.name}. Give the folder that "
                "`mads train --out` wrote."
            )
        self.provenance: RunProvenance = read_provenance(self.dir)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe, resolved as it was when the run began."""
        return load_recipe(self.dir.recipe)

    @property
    def rounds(self) -> list[RunRound]:
        """The complete rounds so far, the first one first.

        Raises DataError when one in between is gone.
        """
        paths = (self.dir.root / "rounds").glob("[0-9]*/" + self.dir.round(0).plan.name)
        numbers = sorted(int(path.parent.name) for path in paths)
        if gaps := sorted(set(range(numbers[-1] if numbers else 0)) - set(numbers)):
            raise DataError(
                f"{self.dir.round(gaps[0]).root} is missing: found rounds 0 to {numbers[-1]} "
                f"without {', '.join(map(str, gaps))}. Put it back."
            )
        return [RunRound(self.dir.round(n), n, self.recipe) for n in numbers]

    def last_round(self) -> RunRound:
        """Return the newest complete round; raises DataError without one."""
        rounds = self.rounds
        if not rounds:
            raise DataError(
                f"{self.dir.root} holds no complete round (no rounds/*/plan.json). Let "
                "`mads train` go on until its first step."
            )
        return rounds[-1]

    def latest_rewards(self, num_rounds: int) -> list[MeasuredRound]:
        """Return the finite rewards of the latest rounds that were measured, the oldest first.

        Raises UsageError for a run without rewards.
        """
        found = measured(self.rounds, num_rounds)
        if not found:
            raise UsageError(
                f"{self.dir.root} has no rewards yet: no round has been measured. Train past "
                "training.first_update, with a strategy that needs rewards."
            )
        return found

    @property
    def records(self) -> list[Record]:
        """All of metrics.jsonl so far; raises DataError for a damaged line."""
        return Metrics(self.dir.metrics).read()

    @property
    def steps(self) -> list[StepRecord]:
        """The optimizer steps so far."""
        return [record for record in self.records if isinstance(record, StepRecord)]

    @property
    def losses(self) -> dict[int, Mapping[str, float]]:
        """The losses on reference and evaluation tasks so far, by the step before which they are.

        Those of the end are by the number of steps.
        """
        held = (RoundRecord, EndRecord)
        return {record.step: record.losses for record in self.records if isinstance(record, held)}

    @property
    def checkpoints(self) -> list[int]:
        """The numbers of steps after which there are checkpoints, the oldest first."""
        return self.dir.checkpoints

    @property
    def num_parameters(self) -> int:
        """The number of parameters that are trained, from the optimizer's state after all steps.

        Raises DataError when the last checkpoint is gone or was changed.
        """
        folder = self.dir.checkpoint(self.recipe.training.steps)
        remedy = "Put it back; the number of parameters is read from it."
        state = read_sealed_json(folder / "state.json", remedy)
        path = folder / "optimizer.safetensors"
        try:
            expected, found = state["files"][path.name], file_sha256(path)
            with path.open("rb") as handle:
                (length,) = struct.unpack("<Q", handle.read(8))
                header = json.loads(handle.read(length))
        except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
            raise unreadable(path, error, remedy) from error
        if found != expected:
            raise DataError(
                f"{path} was changed: its sha256 is {found[:16]}, expected {expected[:16]}. "
                f"{remedy}"
            )
        moments = (value for name, value in header.items() if name.startswith("exp_avg."))
        return sum(math.prod(value["shape"]) for value in moments)

    @property
    def result(self) -> TrainResult | None:
        """How the run ended; None while it goes on."""
        return read_result(self.dir.result)


def measured(rounds: Sequence[RunRound], most: int) -> list[MeasuredRound]:
    """Return the finite rewards of the latest of some rounds that have any, the oldest first."""
    found: list[MeasuredRound] = []
    for one in rounds[::-1]:
        if len(found) == most:
            break
        table = one.rewards(["doc", "reward"])
        if table is None:
            continue
        reward_N = table["reward"].to_numpy()
        finite = np.isfinite(reward_N)
        doc_N = table["doc"].to_numpy()[finite]
        found.append(MeasuredRound(one.number, doc_N, reward_N[finite]))
    return found[::-1]


def open_store(root: Path, run: Path | None, generation: int | None = None) -> Store:
    """Open the generation of a store that a run names, or the given or current one without a run.

    Whatever the store has gained since, a run goes on with what it began with. Raises UsageError
    or DataError when one of them is not there, or is something else.
    """
    return Store(root, generation if run is None else Run(run).provenance.generation)


def followed(
    store: Store, run: Path | None, console: Path | None, recipe: Recipe
) -> tuple[Store, Strategy, Cursors]:
    """Return what a selection by hand follows: a run's last round, or a console state alone.

    The store is the one given, with the generation of that round. Selections by hand take whole
    documents, so one of which the run has read a part counts as not yet taken.

    Raises UsageError when the run or the state does not exist, DataError when it is damaged or of
    another store.
    """
    if run is not None:
        last = Run(run).last_round()
        own = last.store(store)
        return own, last.strategy, last.cursors(own).whole()
    assert console is not None
    if not console.is_file():
        what = "is a folder" if console.is_dir() else "does not exist"
        raise UsageError(f"console state {console} {what}. Give a console.json.")
    strategy = read_strategy(console, recipe, by_hand=True)
    return store, strategy, Cursors.start(len(store.cells))
