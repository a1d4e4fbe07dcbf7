"""What a user should know of the mixtures that a run reads: that they swing, or have collapsed.

total variation of two mixtures = Σ |after − before| / 2: the share of what is read that changed

(0.2, 0.8) after (0.9, 0.1):  0.7 of it changed, which is a swing
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mads.selection.composition import Composition, composition, shares
from mads.types import Cells, Ints

SWING = 0.5  # total variation from one round to the next, over the categories of an agent
COLLAPSE = 0.9  # share of one category in what a round reads ...
COLLAPSE_FACTOR = 1.5  # ... which is so many times its share of the corpus at least


@dataclass(frozen=True, slots=True)
class Alarms:
    """How often each alarm was raised in a round (``swing``, ``collapse``), and in what words."""

    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def alarms(cells: Cells, read_C: Ints, before: Composition | None) -> Alarms:
    """Return the alarms of a round that reads these tokens of each cell.

    ``before`` are the shares of what the round before has read, perhaps of another generation's
    cells; None for the first one. An agent that is new has not swung.
    """
    swings = [] if before is None else _swings(before, shares(cells, read_C))
    collapses = _collapses(cells, read_C)
    found = {"swing": len(swings), "collapse": len(collapses)}
    return Alarms({name: n for name, n in found.items() if n}, (*swings, *collapses))


def total_variation(before: Composition, after: Composition) -> dict[str, float]:
    """Return the total variation between two mixtures, by agent that both have."""
    return {
        agent: sum(abs(share - before[agent][name]) for name, share in table.items()) / 2
        for agent, table in after.items()
        if agent in before
    }


def _swings(before: Composition, after: Composition) -> list[str]:
    return [
        f"{moved:.0%} of what is read is of another {agent} than in the round before: the mixture "
        'swings. console.rule = "mirror" moves it by bounded steps; a higher '
        "selection.temperature, or floors and caps, calm any rule."
        for agent, moved in total_variation(before, after).items()
        if moved > SWING
    ]


def _collapses(cells: Cells, read_C: Ints) -> list[str]:
    both = composition(cells, np.asarray(cells.num_tokens_C), read_C)
    return [
        f"{read:.0%} of what is read is {agent} {name}, which is {corpus:.0%} of the corpus: the "
        f"mixture has collapsed. selection.max_share.{agent} bounds it."
        for agent, table in both.items()
        for name, (corpus, read) in table.items()
        if read > COLLAPSE and read > COLLAPSE_FACTOR * corpus
    ]
