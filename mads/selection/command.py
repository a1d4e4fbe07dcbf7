"""One selection by hand: ``mads select``."""

from __future__ import annotations

from pathlib import Path

from mads.config import Recipe
from mads.errors import UsageError
from mads.memory.store import Store
from mads.run_dir import RoundDir, RunDir
from mads.seeds import derive
from mads.selection.export import Chosen, plan_cursors, read_console, read_plan, write_selection
from mads.selection.plan import Cursors, cell_scores, make_plan
from mads.selection.query import select_documents
from mads.types import ConsoleState


def select_by_run(store: Store, run: Path, tokens: int, recipe: Recipe, out: Path) -> Chosen:
    """Select what a run would read next: its last console state, after its last selection.

    Raises UsageError when ``run`` does not exist, DataError when it is damaged or of another store.
    """
    if not run.is_dir():
        raise UsageError(f"run {run} does not exist. `mads train` makes one.")
    folder = RunDir(run).round(RunDir(run).last_round())
    cursors = plan_cursors(read_plan(folder.plan, store.fingerprint))
    return _select(store, read_console(folder.console), cursors, tokens, recipe, out)


def select_by_console(
    store: Store, console: Path, tokens: int, recipe: Recipe, out: Path
) -> Chosen:
    """Select by a console state alone, as if nothing had been selected before.

    Raises UsageError when the file does not exist, DataError when it is not a console state.
    """
    if not console.is_file():
        raise UsageError(f"console state {console} does not exist.")
    cursors = Cursors.start(len(store.cells))
    return _select(store, read_console(console), cursors, tokens, recipe, out)


def _select(
    store: Store, state: ConsoleState, cursors: Cursors, tokens: int, recipe: Recipe, out: Path
) -> Chosen:
    seed = derive(recipe.seed, "select", state.round)
    score_C = cell_scores(store.cells, state)
    plan = make_plan(store.cells, score_C, cursors, tokens, recipe.selection, seed)
    selection = select_documents(store.dir.order, store.cells, plan, recipe.selection)
    chosen = Chosen(plan, selection)
    write_selection(RoundDir(out), [chosen], state, recipe.selection, store.fingerprint, seed)
    return chosen
