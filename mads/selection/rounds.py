"""What a round of training reads: one selection for each stretch of ``select_every`` steps.

Scores are constant within a round, so all its selections follow from the cursors alone and are made
at its beginning; each sees the uses that those before it have counted.
"""

from __future__ import annotations

import time

from mads.config import Recipe, TrainingConfig
from mads.errors import DataError
from mads.seeds import derive
from mads.selection.bounds import exact_budget
from mads.selection.plan import Cursors, make_plan
from mads.selection.plan_file import Chosen
from mads.selection.query import OrderReader
from mads.store.store import Store
from mads.types import Floats

PART_CONTEXTS = 4  # of a part, where the recipe says nothing


def stretches(start: int, stop: int, every: int) -> list[tuple[int, int]]:
    """Cut the steps [start, stop) into stretches of ``every`` steps; 0 = one stretch.

    >>> stretches(10, 15, 2)
    [(10, 12), (12, 14), (14, 15)]
    """
    size = every or stop - start
    return [(first, min(first + size, stop)) for first in range(start, stop, size)]


def part_tokens(config: TrainingConfig) -> int:
    """Return how many tokens of a document training reads as one part, at most."""
    return config.part_tokens or PART_CONTEXTS * config.context


def select_round(
    store: Store,
    score_C: Floats,
    cursors: Cursors,
    recipe: Recipe,
    number: int,
    bounds: tuple[int, int],
) -> list[Chosen]:
    """Select what the steps of round ``number`` read: for each stretch, at least its tokens.

    Documents are taken in parts, so that a stretch's composition is its plan's.

    A stretch that needs more than the corpus goes through it again, so it has several selections;
    so has one whose fixed shares ask for more of a category than there is.
    Raises DataError when ``max_passes`` leaves nothing to select.
    """
    cells, config = store.cells, recipe.selection
    parts, size = stretches(*bounds, config.select_every), part_tokens(recipe.training)
    most = max(int(min(exact_budget(cells, config), 2**62)), 1)
    chosen: list[Chosen] = []
    with OrderReader.of(store, config) as order:
        for done, (first, stop) in enumerate(parts):
            left = (stop - first) * recipe.training.batch_tokens
            while left > 0:
                begun = time.perf_counter()
                seed = derive(recipe.seed, "selection", number, len(chosen))
                budget = min(left, most)
                plan = make_plan(*(cells, score_C, cursors, budget, config, seed), part_tokens=size)
                selection = order.select(plan, len(parts) - done)
                if not len(selection.doc_N):
                    raise DataError(
                        f"round {number}: the corpus is used up; {left:,} tokens are missing. "
                        f"Raise selection.max_passes ({config.max_passes}) or lower training.steps."
                    )
                chosen.append(Chosen(selection, first, time.perf_counter() - begun))
                cursors = selection.cursors
                left -= selection.num_tokens
    return chosen
