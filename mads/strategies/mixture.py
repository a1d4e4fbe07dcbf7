"""A mixture that is given and stays: shares of tokens of one agent's categories."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from mads.codec import Within, from_json, to_json
from mads.config import Recipe, Shares
from mads.console.tilt import weight_of
from mads.errors import UsageError, did_you_mean
from mads.strategies.published import DOMAINS
from mads.strategies.strategy import Evidence, Updated
from mads.strategies.unweighted import Unweighted
from mads.types import Cells, Feedback, TrainingLosses

LEAST_LOG = -6.0  # of a category's factor: a four-hundredth of its share is as good as none


@dataclass(frozen=True, slots=True)
class SavedMixture:
    """What console.json holds of this strategy."""

    strategy: str
    round: Annotated[int, Within(0, 2**40)]
    shares: Shares


@dataclass(frozen=True, slots=True)
class Mixture(Unweighted):
    """``mixture``: the shares of ``[mixture.AGENT]`` in every selection.

    Within a category documents are as the corpus has them.
    """

    round: int
    shares: Shares
    name: ClassVar[str] = "mixture"
    needs: ClassVar[Evidence] = Evidence.NOTHING

    @classmethod
    def start(cls, cells: Cells, recipe: Recipe) -> Self:
        """Return the strategy of round 0; raises UsageError for shares that misfit the cells."""
        for agent in recipe.mixture:
            refuse_bounds(recipe, agent)
        return cls(0, whole_shares(cells, recipe.mixture))

    def updated(self, evidence: Feedback | TrainingLosses) -> Updated:
        """Leave evidence unused."""
        del evidence
        return Updated(self.next_round())

    def next_round(self) -> Self:
        """Return the same shares for the next round."""
        return replace(self, round=self.round + 1)

    def to_json(self) -> dict[str, Any]:
        """Return round and shares as JSON values."""
        values: dict[str, Any] = to_json(SavedMixture(self.name, self.round, self.shares))
        return values

    @classmethod
    def from_json(cls, value: object, path: Path, recipe: Recipe) -> Self:
        """Return the strategy from JSON values; raises DataError for a bad state."""
        del recipe
        what = "a state of the strategy 'mixture'"
        saved = from_json(SavedMixture, value, path, what, "Give one that `mads train` wrote.")
        return cls(saved.round, saved.shares)


def refuse_bounds(recipe: Recipe, agent: str) -> None:
    """Raise UsageError for floors or caps of an agent whose shares a strategy gives."""
    for key in ("min_share", "max_share"):
        if agent in getattr(recipe.selection, key):
            raise UsageError(
                f"selection.{key}.{agent}: the strategy {recipe.strategy!r} gives all shares of "
                "this agent. Leave the bounds out, or take another strategy."
            )


def whole_shares(cells: Cells, mixture: Mapping[str, Mapping[str, float]]) -> Shares:
    """Return a mixture with a share for each category of its agent: 0 where none is given.

    Raises UsageError for an agent or a category that the store does not have, or has no text of.
    """
    found: Shares = {}
    for agent, shares in mixture.items():
        if agent not in cells.agents:
            near = did_you_mean(agent, cells.agents)
            raise UsageError(f"mixture.{agent}: there is no such agent; {near}")
        corpus = corpus_shares(cells, agent)
        for name, share in shares.items():
            place = f"mixture.{agent}.{name}"
            if name not in corpus:
                raise UsageError(
                    f"{place}: no such category; {_renaming(shares)}{did_you_mean(name, corpus)}"
                )
            if share > 0 and not corpus[name] > 0:
                raise UsageError(
                    f"{place}: found {share:g}, but the store has no document of this category. "
                    "Leave it out, and give the others its share."
                )
        found[agent] = {name: float(shares.get(name, 0.0)) for name in corpus}
    return found


def _renaming(shares: Mapping[str, float]) -> str:
    """Return how to use a published mixture with other names."""
    if set(shares) != set(DOMAINS):
        return ""
    table = ", ".join(f"{name} = {share:.4f}" for name, share in shares.items())
    return f"write the published shares with your own names ({table}); "


def corpus_shares(cells: Cells, agent: str) -> dict[str, float]:
    """Return the share of the corpus's tokens that each category of an agent has."""
    tokens_J = cells.by_category(agent, cells.num_tokens_C)
    share_J = tokens_J / max(tokens_J.sum(), 1.0)
    return dict(zip(cells.categories[agent], share_J.tolist(), strict=True))


def mixture_weights(
    cells: Cells, mixture: Mapping[str, Mapping[str, float]], temperature: float, num_agents: int
) -> dict[str, dict[str, float]]:
    """Return the weights under which the policy ``sample`` begins with a mixture.

    Equation 6 with equal θ: w = 1 + τ · (number of agents) · log(share / the corpus's share), so
    that e^{S/τ} is proportional to share / the corpus's share. It is exact while the budget is
    small against the corpus. Raises UsageError like ``whole_shares``.
    """
    found: dict[str, dict[str, float]] = {}
    for agent, shares in whole_shares(cells, mixture).items():
        corpus = corpus_shares(cells, agent)
        found[agent] = {
            name: weight_of(_log_factor(share, corpus[name]), temperature, num_agents)
            for name, share in shares.items()
        }
    return found


def _log_factor(share: float, corpus: float) -> float:
    if not corpus > 0:
        return 0.0  # nothing is there to be selected
    return max(math.log(share / corpus), LEAST_LOG) if share > 0 else LEAST_LOG
