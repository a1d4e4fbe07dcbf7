"""What can be wrong with a run and is known without torch, whose import takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mads.config import INFLUENCE, Recipe
from mads.errors import UsageError
from mads.layout import RunDir, refuse_inside
from mads.run.branch import Source, check_branch
from mads.run.folder import check_folder
from mads.run.schedule import strategy_name
from mads.selection.bounds import find_bounds, with_shares
from mads.store.store import Store
from mads.strategies import STRATEGIES
from mads.strategies.strategy import Evidence, Strategy
from mads.tasks.formats import load_examples
from mads.types import Cells


def check_run(store: Store, out: Path, recipe: Recipe, source: Source | None = None) -> None:
    """Raise UsageError or DataError for a recipe that cannot be trained on a store into ``out``.

    Tasks are read, weights, shares and bounds are compared with the store's agents.
    """
    check_recipe(store, out, recipe)
    if source is not None:
        check_branch(source, RunDir(out), store, recipe)
    if out.exists():
        check_folder(RunDir(out), store, recipe)
    started(store.cells, recipe)
    for name, task in {**recipe.rewards.tasks, **recipe.evaluation.tasks}.items():
        load_examples(name, task, recipe.evaluation.seed)


def started(cells: Cells, recipe: Recipe) -> Strategy:
    """Return the strategy of round 0; raises UsageError for weights, shares or bounds that misfit.

    A mixture's shares are bounds too.
    """
    strategy = STRATEGIES[strategy_name(recipe)].start(cells, recipe)
    find_bounds(cells, with_shares(recipe.selection, strategy.shares), np.arange(len(cells)))
    return strategy


def check_recipe(store: Store, out: Path, recipe: Recipe) -> None:
    """Raise UsageError for a recipe that no run can follow on a store, or a folder inside one."""
    check_evidence(recipe)
    check_influence(store, recipe)
    refuse_inside(out)


def check_evidence(recipe: Recipe) -> None:
    """Raise UsageError for a strategy that learns from reference tasks, of which there is none."""
    kind = STRATEGIES[strategy_name(recipe)]
    if not recipe.rewards.tasks and kind.needs is Evidence.DOCUMENT_REWARDS:
        raise UsageError(
            "the recipe has no reference task: add a [rewards.tasks.NAME] section with a path "
            f'(context and continuation per line), or set strategy = "random" (now {kind.name!r}).'
        )


def check_influence(store: Store, recipe: Recipe) -> None:
    """Raise UsageError for a store whose own agent has the name of the run's."""
    if recipe.influence.every and INFLUENCE in store.spec.agents:
        raise UsageError(
            f"influence.every: {store.dir.root} has an agent {INFLUENCE!r} already, which is what "
            "the run calls its own. Leave influence.every out (0), or annotate with another name "
            "for that agent."
        )


def refuse_training_losses(strategy: Strategy) -> None:
    """Raise UsageError for a strategy that needs what only `mads train` sees."""
    if strategy.needs is Evidence.CATEGORY_LOSSES:
        raise UsageError(
            f"strategy: {strategy.name!r} needs the training loss of each category, which a "
            "trainer of one's own does not tell. Take another strategy, or `mads train`."
        )
