"""What a run begins with: equal weights, a prior of the user's, or one matched to the tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mads.config import Recipe
from mads.layout import RunDir
from mads.rewards.matching import Matched, match_recipe
from mads.store.store import Store

_NAMED = 3  # categories of each agent that a note names


def with_prior(run: RunDir, store: Store, recipe: Recipe, note: Callable[[str], None]) -> Recipe:
    """Return the recipe with the prior that the run begins with, if it has to be matched.

    It follows from store and recipe alone, so a call that goes on from a checkpoint needs none:
    the rounds hold what became of it.
    """
    if recipe.console.start != "matched" or run.latest.is_file():
        return recipe
    found = match_recipe(store, recipe, lambda *_: None)
    note(_told(found))
    prior = {agent: dict(table) for agent, table in found.weights.items()}
    return replace(recipe, console=replace(recipe.console, prior=prior))


def _told(found: Matched) -> str:
    """Return the categories whose share changes most, for the user to read."""
    parts = []
    for agent, table in found.shares.items():
        moved = sorted(table.items(), key=lambda item: -abs(item[1][1] - item[1][0]))[:_NAMED]
        named = ", ".join(f"{name} {after:.0%} ({before:.0%})" for name, (before, after) in moved)
        parts.append(f"{agent}: {named}")
    return (
        f"the run begins with the mixture that the reference tasks' texts ask for (pull "
        f"{found.pull:g}), in % of tokens and of the corpus's: {'; '.join(parts)}."
    )
