"""Weights that are given and stay: a published mixture, say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from mads.config import Recipe
from mads.console import initial_state
from mads.console.scores import console_cells
from mads.console.state import console_from_json
from mads.strategies.strategy import Evidence, Updated
from mads.strategies.weighted import Weighted
from mads.types import Cells, Feedback, TrainingLosses


@dataclass(frozen=True, slots=True)
class Fixed(Weighted):
    """``fixed``: equation 6 with the weights of ``[console.prior]``, in every round."""

    name: ClassVar[str] = "fixed"
    needs: ClassVar[Evidence] = Evidence.NOTHING

    @classmethod
    def start(cls, cells: Cells, recipe: Recipe) -> Self:
        """Return the prior's weights; raises UsageError for a prior that does not fit the cells."""
        seen = console_cells(cells, recipe.console.agents)
        return cls(initial_state(seen.categories, recipe.console.prior))

    def updated(self, evidence: Feedback | TrainingLosses) -> Updated:
        """Leave evidence unused."""
        del evidence
        return Updated(self.next_round())

    @classmethod
    def from_json(cls, value: object, path: Path, recipe: Recipe) -> Self:
        """Return the weights from JSON values; raises DataError for a bad state."""
        del recipe
        return cls(console_from_json(value, path))
