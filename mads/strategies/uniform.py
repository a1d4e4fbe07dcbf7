"""No preference: every document scores the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from mads.codec import Within, from_json
from mads.config import Recipe
from mads.strategies.strategy import Evidence, Updated
from mads.strategies.unweighted import Unweighted
from mads.types import Cells, Feedback, TrainingLosses


@dataclass(frozen=True, slots=True)
class SavedRandom:
    """What console.json holds of this strategy."""

    strategy: str
    round: Annotated[int, Within(0, 2**40)]


@dataclass(frozen=True, slots=True)
class Random(Unweighted):
    """``random``: the corpus's own mixture. No evidence, no weights."""

    round: int
    name: ClassVar[str] = "random"
    needs: ClassVar[Evidence] = Evidence.NOTHING

    @property
    def shares(self) -> Mapping[str, Mapping[str, float]]:
        """Nothing."""
        return {}

    @classmethod
    def start(cls, cells: Cells, recipe: Recipe) -> Self:
        """Return the strategy of round 0."""
        del cells, recipe
        return cls(0)

    def updated(self, evidence: Feedback | TrainingLosses) -> Updated:
        """Leave evidence unused."""
        del evidence
        return Updated(self.next_round())

    def next_round(self) -> Self:
        """Return the strategy of the next round."""
        return type(self)(self.round + 1)

    def to_json(self) -> dict[str, Any]:
        """Return the round as JSON values."""
        return {"strategy": self.name, "round": self.round}

    @classmethod
    def from_json(cls, value: object, path: Path, recipe: Recipe) -> Self:
        """Return the strategy from JSON values; raises DataError for a bad state."""
        del recipe
        what = "a state of the strategy 'random'"
        saved = from_json(SavedRandom, value, path, what, "Give one that `mads train` wrote.")
        return cls(saved.round)
