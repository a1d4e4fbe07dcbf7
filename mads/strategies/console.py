"""The agent console: weights of categories and agents, updated by document rewards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from mads.config import ConsoleConfig, Recipe
from mads.console import initial_state, update
from mads.console.scores import cell_scores
from mads.console.state import console_from_json, console_to_json
from mads.strategies.strategy import Evidence, Floats, Updated, Weights
from mads.types import Cells, ConsoleState, Feedback


@dataclass(frozen=True, slots=True)
class Console:
    """``console``: equation 6 with weights that an update rule learns (``[console]``)."""

    state: ConsoleState
    config: ConsoleConfig
    name: ClassVar[str] = "console"
    needs: ClassVar[Evidence] = Evidence.DOCUMENT_REWARDS

    @property
    def round(self) -> int:
        """The round whose selection follows these weights."""
        return self.state.round

    @property
    def theta(self) -> Mapping[str, float]:
        """The collaborative weight per agent."""
        return self.state.theta

    @property
    def weights(self) -> Weights:
        """The category weights per agent."""
        return self.state.weights

    @classmethod
    def start(cls, cells: Cells, recipe: Recipe) -> Self:
        """Return equal weights, or the prior's; raises UsageError for a prior that does not fit."""
        return cls(initial_state(cells.categories, recipe.console.prior), recipe.console)

    def updated(self, feedback: Feedback) -> Updated:
        """Return the console after a round of rewards, under the rule of the recipe."""
        found = update(self.state, feedback, self.config)
        notes = []
        if found.refused:
            notes.append(f"the console keeps its weights: {found.refused}.")
        elif "entropy" in found.guards:
            notes.append(
                "weights were about to collapse onto few categories and were drawn together, for "
                f"{found.guards['entropy']} agent(s) (console.min_entropy)."
            )
        after = replace(self, state=found.state)
        return Updated(after, found.refused, found.guards, tuple(notes))

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
        """Return the console from JSON values; raises DataError for a bad state."""
        return cls(console_from_json(value, path), recipe.console)
