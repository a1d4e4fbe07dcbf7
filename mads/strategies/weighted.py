"""What strategies with weights of agents and categories share: their scores and their state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from mads.console.scores import cell_scores
from mads.console.state import console_to_json
from mads.strategies.strategy import Weights
from mads.types import Cells, ConsoleState, Floats


@dataclass(frozen=True, slots=True)
class Weighted:
    """Equation 6 with the weights of a console's state."""

    state: ConsoleState
    name: ClassVar[str]

    @property
    def round(self) -> int:
        """The round whose selection follows these weights."""
        return self.state.round

    @property
    def learned(self) -> bool:
        """Whether an update rule has made the weights."""
        return self.state.rule != ""

    @property
    def theta(self) -> Mapping[str, float]:
        """The collaborative weight per agent."""
        return self.state.theta

    @property
    def weights(self) -> Weights:
        """The category weights per agent."""
        return self.state.weights

    @property
    def shares(self) -> Weights:
        """Nothing: weights rank."""
        return {}

    @property
    def losses_of(self) -> str:
        """Nothing."""
        return ""

    def next_round(self) -> Self:
        """Return the same weights for the next round."""
        return replace(self, state=replace(self.state, round=self.state.round + 1))

    def scores(self, cells: Cells) -> Floats:
        """Equation 6 for each cell; raises DataError when names do not match."""
        return cell_scores(cells, self.state)

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return console_to_json(self.state, self.name)
