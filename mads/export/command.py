"""One selection by hand: ``mads select``."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mads.config import Recipe
from mads.console.scores import cell_scores
from mads.console.state import console_to_json, read_console
from mads.errors import UsageError
from mads.export.megatron import TOKENS, write_tokens
from mads.export.parts import find_part, write_part
from mads.export.texts import only_texts, write_texts
from mads.files import PARTIAL
from mads.layout import RoundDir, RunDir
from mads.seeds import derive
from mads.selection.composition import composition
from mads.selection.plan import Cursors, Plan, Unit, make_plan
from mads.selection.plan_file import Chosen, plan_cursors, read_plan, write_selection
from mads.selection.query import OrderReader, unchanged
from mads.store.store import Store
from mads.types import ConsoleState

TEXTS = "texts"


@dataclass(frozen=True, slots=True)
class Request:
    """What to select: by a run (what it would read next) or by a console state alone."""

    store: Store
    run: Path | None
    console: Path | None
    budget: int
    unit: Unit
    recipe: Recipe

    def state(self) -> tuple[ConsoleState, Cursors]:
        """Return the console state and the cursors to go on from.

        Raises UsageError when the run or the state does not exist, DataError when it is damaged
        or of another store.
        """
        if self.run is not None:
            if not self.run.is_dir():
                raise UsageError(f"run {self.run} does not exist. `mads train` makes one.")
            folder = RunDir(self.run).round(RunDir(self.run).last_round())
            cursors = plan_cursors(read_plan(folder.plan, self.store.fingerprint))
            return read_console(folder.console), cursors
        assert self.console is not None
        if not self.console.is_file():
            raise UsageError(f"console state {self.console} does not exist.")
        return read_console(self.console), Cursors.start(len(self.store.cells))

    def plan(self, state: ConsoleState, cursors: Cursors) -> Plan:
        """Return the plan under a state."""
        cells, config = self.store.cells, self.recipe.selection
        score_C = cell_scores(cells, state)
        return make_plan(cells, score_C, cursors, self.budget, config, self.seed(state), self.unit)

    def seed(self, state: ConsoleState) -> int:
        """Return the seed of this selection."""
        return derive(self.recipe.seed, "select", state.round)


@dataclass(frozen=True, slots=True)
class Exports:
    """What to write beside plan.json and selection.parquet."""

    texts: bool
    megatron: bool
    on_progress: Callable[[int, int], None]

    def write(self, store: Store, doc_N: NDArray[np.uint64], out: Path, seed: int) -> None:
        """Write the texts and the tokens of documents, where asked for."""
        if self.texts:
            write_texts(store, doc_N, out / TEXTS, self.on_progress)
        if self.megatron:
            write_tokens(store, doc_N, out, seed)


def select_and_write(request: Request, out: Path, exports: Exports) -> dict[str, Any]:
    """Select, write the exports, selection.parquet and, last, plan.json; return what was selected.

    Raises UsageError when ``out`` holds anything but a killed earlier attempt, and what
    ``Request.state`` raises.
    """
    store, config = request.store, request.recipe.selection
    _refuse_full(out, store)
    state, cursors = request.state()
    _refuse_other_console(out, state)
    with unchanged(store):
        plan = request.plan(state, cursors)
        with OrderReader(store.order, store.cells, config) as order:
            selection = order.select(plan)
    _delete_exports(out)
    exports.write(store, selection.doc_N, out, request.seed(state))
    budget = {f"budget_{plan.unit}": plan.budget}
    head = {"seed": request.seed(state), "policy": config.policy, **budget}
    write_selection(RoundDir(out), store, console_to_json(state), [Chosen(selection)], head)
    picked_C = np.bincount(selection.cell_N, selection.num_tokens_N, len(store.cells))
    return {
        "out": str(out),
        "num_docs": len(selection.doc_N),
        "num_tokens": selection.num_tokens,
        **budget,
        f"shortfall_{plan.unit}": plan.shortfall,
        "composition": composition(store.cells, store.cells.num_tokens_C, picked_C),
    }


def write_shard(
    store: Store, plan_file: Path, part: str, out: Path, exports: Exports
) -> dict[str, Any]:
    """Write part i of n of a selection, from its plan; return what the part holds.

    Raises UsageError when ``out`` holds anything but a killed earlier attempt or the plan does
    not exist, DataError when the plan is none or of another store.
    """
    _refuse_full(out, store)
    if not plan_file.is_file():
        raise UsageError(f"plan {plan_file} does not exist. `mads select --out` writes plan.json.")
    plan = read_plan(plan_file, store.fingerprint)
    with unchanged(store):
        found = find_part(store, plan, part)
    doc_N = found.documents["doc"].to_numpy()
    _delete_exports(out)
    exports.write(store, doc_N, out, derive(plan["seed"], part))
    write_part(plan, found, out)
    return {"out": str(out), "shard": part, "num_docs": len(doc_N), "num_tokens": found.num_tokens}


def _refuse_full(out: Path, store: Store) -> None:
    """Raise UsageError for a folder with anything in it but what a killed attempt leaves behind.

    plan.json is written last, so a folder that has one holds a complete selection.
    """
    if not out.exists():
        return
    folder = RoundDir(out)
    last = folder.plan.name + PARTIAL
    own = {folder.console.name, folder.selection.name, TEXTS, *TOKENS}
    own |= {name + PARTIAL for name in own} | {last}
    foreign = not out.is_dir() or {p.name for p in out.iterdir()} - own
    if foreign or not only_texts(out / TEXTS, store):
        raise UsageError(f"{out} is not empty. Give another --out.")


def _refuse_other_console(out: Path, state: ConsoleState) -> None:
    """Raise UsageError for a console state that no attempt at this selection can have left."""
    path = RoundDir(out).console
    if path.exists() and read_console(path) != state:
        raise UsageError(f"{out} is not empty: it has another console.json. Give another --out.")


def _delete_exports(out: Path) -> None:
    """Delete the texts and tokens of a killed attempt, which may have selected otherwise."""
    if (out / TEXTS).is_dir():
        shutil.rmtree(out / TEXTS)
    for name in TOKENS:
        (out / name).unlink(missing_ok=True)
    for path in out.glob(f"*{PARTIAL}"):
        path.unlink()
