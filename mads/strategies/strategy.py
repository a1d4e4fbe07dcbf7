"""What every strategy can do. A strategy is an immutable value: its settings and its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from mads.config import Recipe
from mads.types import Cells, Feedback, Floats, TrainingLosses

Weights = Mapping[str, Mapping[str, float]]


class Evidence(StrEnum):
    """What a strategy learns from, which has to be measured for it."""

    NOTHING = "nothing"
    DOCUMENT_REWARDS = "document rewards"  # a Feedback, measured before a round
    CATEGORY_LOSSES = "category losses"  # TrainingLosses, which training meets anyway


class Strategy(Protocol):
    """Turns evidence into one score per cell. Its JSON says ``strategy`` and ``round``."""

    name: ClassVar[str]  # its key in STRATEGIES
    needs: ClassVar[Evidence]

    @property
    def round(self) -> int:
        """Of the run: the round whose selection follows these scores."""

    @property
    def learned(self) -> bool:
        """Whether evidence has moved it yet."""

    @property
    def theta(self) -> Mapping[str, float]:
        """Return the collaborative weight per agent; empty for a strategy without weights."""

    @property
    def weights(self) -> Weights:
        """Return ``w`` per agent and category; empty for a strategy without weights."""

    @property
    def shares(self) -> Weights:
        """Return the shares of every selection that are held exactly, by agent and category.

        Within a category scores decide. Empty for a strategy that only ranks.
        """

    @property
    def losses_of(self) -> str:
        """Return the agent whose categories' training losses are the evidence; "" without."""

    @classmethod
    def start(cls, cells: Cells, recipe: Recipe) -> Self:
        """Return the strategy of round 0; raises UsageError for settings that do not fit cells."""

    def updated(self, evidence: Feedback | TrainingLosses) -> Updated:
        """Return the strategy of the next round, after evidence of the kind that it needs."""

    def next_round(self) -> Self:
        """Return the strategy of the next round, for which there is no evidence."""

    def scores(self, cells: Cells) -> Floats:
        """Return one score per cell, shape (C,); raises DataError when names do not match."""

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON values, keyed by name."""

    @classmethod
    def from_json(cls, value: object, path: Path, recipe: Recipe) -> Self:
        """Return the strategy from what ``to_json`` gave; raises DataError for a bad state."""


@dataclass(frozen=True, slots=True)
class Updated:
    """The strategy after a round of evidence.

    ``refused`` says why the evidence was not used ("" if it was); ``guards`` counts how often each
    guard rail acted; ``notes`` are for the user to read.
    """

    strategy: Strategy
    refused: str = ""
    guards: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
