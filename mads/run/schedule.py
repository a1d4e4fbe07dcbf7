"""Which round an optimizer step lies in."""

from __future__ import annotations

from mads.config import Recipe


def round_of(step: int, recipe: Recipe) -> int:
    """Return the round in which an optimizer step lies."""
    first, every = recipe.training.first_update, recipe.training.update_every
    return 0 if step < first else 1 + (step - first) // every


def round_bounds(number: int, recipe: Recipe) -> tuple[int, int]:
    """Return the first step of a round and the first one after it."""
    first, every = recipe.training.first_update, recipe.training.update_every
    start = 0 if number == 0 else first + (number - 1) * every
    return start, min(first + number * every, recipe.training.steps)
