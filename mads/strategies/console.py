"""The agent console: weights of categories and agents, updated by document rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from mads.config import ConsoleConfig, Recipe
from mads.console import initial_state, update, with_agent
from mads.console.scores import console_cells
from mads.console.state import console_from_json
from mads.strategies.mixture import mixture_weights
from mads.strategies.strategy import Evidence, Updated
from mads.strategies.weighted import Weighted
from mads.types import Cells, Feedback, TrainingLosses


@dataclass(frozen=True, slots=True)
class Console(Weighted):
    """``console``: equation 6 with weights that an update rule learns (``[console]``)."""

    config: ConsoleConfig
    name: ClassVar[str] = "console"
    needs: ClassVar[Evidence] = Evidence.DOCUMENT_REWARDS

    @classmethod
    def start(cls, cells: Cells, recipe: Recipe) -> Self:
        """Return equal weights, the prior's or a mixture's; raises UsageError for what misfits."""
        config, prior = recipe.console, recipe.console.prior
        cells = console_cells(cells, config.agents)
        if config.start == "mixture":
            temperature = recipe.selection.temperature
            prior = mixture_weights(cells, recipe.mixture, temperature, len(cells.agents))
        return cls(initial_state(cells.categories, prior), config)

    def updated(self, evidence: Feedback | TrainingLosses) -> Updated:
        """Return the console after a round of rewards, under the rule of the recipe."""
        assert isinstance(evidence, Feedback)
        found = update(self.state, evidence, self.config)
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

    def with_agent(self, agent: str, categories: Sequence[str]) -> Self:
        """Return the console with an agent that appears in the middle of a run."""
        return replace(self, state=with_agent(self.state, agent, categories))

    @classmethod
    def from_json(cls, value: object, path: Path, recipe: Recipe) -> Self:
        """Return the console from JSON values; raises DataError for a bad state."""
        return cls(console_from_json(value, path), recipe.console)
