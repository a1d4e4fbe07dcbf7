"""Weights that are given and stay: a published mixture, say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from mads.config import Recipe
from mads.console import initial_state
from mads.console.scores import cell_scores
from mads.console.state import console_from_json, console_to_json
from mads.strategies.strategy import Evidence, Floats, Updated, Weights
from mads.types import Cells, ConsoleState, Feedback


@dataclass(frozen=True, slots=True)
class Fixed:
    """``fixed``: equation 6 with the weights of ``[console.prior]``, in every round."""

    state: ConsoleState
    name: ClassVar[str] = "fixed"
    needs: ClassVar[Evidence] = Evidence.NOTHING

    @property
    def round(self) -> int:
        """The round whose selection follows these weights."""
        return self.state.round

    @property
    def theta(self) -> Mapping[str, float]:
        """The collaborative weight per agent: all are equal."""
        return self.state.theta

    @property
    def weights(self) -> Weights:
        """The category weights per agent."""
        return self.state.weights

    @classmethod
    def start(cls, cells: Cells, recipe: Recipe) -> Self:
        """Return the prior's weights; raises UsageError for a prior that does not fit the cells."""
        return cls(initial_state(cells.categories, recipe.console.prior))

    def updated(self, feedback: Feedback) -> Updated:
        """Leave rewards unused."""
        del feedback
        return Updated(self.next_round())

    def next_round(self) -> Self:
        """Return the same weights for the next round."""
        return replace(self, state=replace(self.state, round=self.state.round + 1))

    def scores(self, cells: Cells) -> Floats:
        """Equation 6 for each cell; raises DataError when names do not match."""
        return cell_scores(cells, self.state)

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return console_to_json(self.state, self.name)

    @classmethod
    def from_json(cls, value: object, path: Path, recipe: Recipe) -> Self:
        """Return the weights from JSON values; raises DataError for a bad state."""
        del recipe
        return cls(console_from_json(value, path))
