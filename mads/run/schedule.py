"""Which round an optimizer step lies in, and which strategy decides."""

from __future__ import annotations

from mads.config import Recipe
from mads.selection.policies import POLICIES
from mads.strategies import STRATEGIES
from mads.strategies.uniform import Random
from mads.strategies.weighted import Weighted


def round_of(step: int, recipe: Recipe) -> int:
    """Return the round in which an optimizer step lies."""
    first, every = recipe.training.first_update, recipe.training.update_every
    return 0 if step < first else 1 + (step - first) // every


def round_bounds(number: int, recipe: Recipe) -> tuple[int, int]:
    """Return the first step of a round and the first one after it."""
    first, every = recipe.training.first_update, recipe.training.update_every
    start = 0 if number == 0 else first + (number - 1) * every
    return start, min(first + number * every, recipe.training.steps)


def open_end(recipe: Recipe) -> int:
    """Return the last step up to which a run with more ``training.steps`` would be the same.

    A round that is cut short by the end reads something else where it goes on, ``wsd`` falls at the
    end, and under ``cosine`` every step's learning rate follows from the last one: 0.
    """
    training = recipe.training
    if training.schedule == "cosine":
        return 0
    last = training.steps
    number = round_of(last - 1, recipe)
    start, _ = round_bounds(number, recipe)
    if last < training.first_update + number * training.update_every:
        last = start
    if training.schedule == "wsd":
        last = min(last, training.steps - training.decay_steps)
    return max(last, 0)


def strategy_name(recipe: Recipe) -> str:
    """Return the name of the strategy that decides in a run.

    It is the recipe's, but ``random`` for one with weights where the policy reads no scores:
    rewards would be measured in vain. So ``selection.policy = "random"`` is the corpus's own
    mixture, without feedback. Shares that a strategy holds need no scores.
    """
    ranks = issubclass(STRATEGIES[recipe.strategy], Weighted)
    if ranks and not POLICIES[recipe.selection.policy].uses_scores:
        return Random.name
    return recipe.strategy
