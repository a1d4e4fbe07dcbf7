"""Online data mixing: a bandit over one agent's categories, whose reward is the training loss.

What the model predicts badly is read more, and every category keeps a floor that shrinks. Source:
Albalak et al. 2023, arXiv 2312.02406, after EXP3 (Auer et al. 2002). A turn is a round here and an
optimizer step there; all categories are read in a round, so a reward is no longer a draw.

    ε_t = min(1 / K, √(ln K / (K t)))
    π_t = (1 − K ε_t) · softmax(ε_{t−1} R̂) + ε_t          K categories, t = 1, 2, …
    R̂ ← α R̂ + (1 − α) · (a category's loss per token of the round) / π
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np

from mads.codec import Within, from_json, to_json
from mads.config import Recipe
from mads.errors import DataError, UsageError, did_you_mean
from mads.strategies.mixture import corpus_shares, refuse_bounds
from mads.strategies.strategy import Evidence, Updated
from mads.strategies.unweighted import Unweighted
from mads.types import Cells, Feedback, Floats, TrainingLosses

WHAT = "a state of the strategy 'odm'"
REMEDY = "Give one that `mads train` wrote."


def exploration(turn: int, num_arms: int) -> float:
    """Return ε_t, the least share of each of K categories in turn t; 1 / K before the first."""
    most = 1.0 / num_arms
    return min(most, math.sqrt(math.log(num_arms) / (num_arms * turn))) if turn else most


def policy(reward_K: Floats, turn: int) -> Floats:
    """Return π_t, the shares of K categories in turn t from their mean rewards so far."""
    floor, before = (exploration(t, len(reward_K)) for t in (turn, turn - 1))
    power_K = np.exp(before * (reward_K - reward_K.max()))
    share_K: Floats = (1.0 - len(reward_K) * floor) * power_K / power_K.sum() + floor
    return share_K


def importance_weighted(loss: float, all_tokens: float, share: float) -> float:
    """Return a round's reward of a category: its summed loss / (tokens of the round · π).

    In expectation over what a round reads it is the category's mean loss, in nats per token.
    """
    return loss / (all_tokens * share)


@dataclass(frozen=True, slots=True)
class SavedOdm:
    """What console.json holds of this strategy."""

    strategy: str
    round: Annotated[int, Within(0, 2**40)]
    agent: str
    reward: Mapping[str, Annotated[float, Within(0, 1e100)]]


@dataclass(frozen=True, slots=True)
class Odm(Unweighted):
    """``odm``: shares of one agent's categories by their training losses (``[odm]``).

    ``reward`` is R̂ of each category of which there is text. The first round reads all alike.
    """

    round: int
    agent: str
    reward: Mapping[str, float]
    smoothing: float
    name: ClassVar[str] = "odm"
    needs: ClassVar[Evidence] = Evidence.CATEGORY_LOSSES

    @property
    def losses_of(self) -> str:
        """The agent whose categories are the bandit's."""
        return self.agent

    @property
    def shares(self) -> Mapping[str, Mapping[str, float]]:
        """π of the round, which every selection of it holds."""
        share_K = policy(np.array(list(self.reward.values())), self.round + 1)
        return {self.agent: dict(zip(self.reward, share_K.tolist(), strict=True))}

    @classmethod
    def start(cls, cells: Cells, recipe: Recipe) -> Self:
        """Return the strategy of round 0; raises UsageError for an agent that is not there."""
        agent = recipe.odm.agent
        if agent not in cells.agents:
            near = did_you_mean(agent, cells.agents)
            raise UsageError(f"odm.agent: the store has no agent {agent!r}; {near}")
        refuse_bounds(recipe, agent)
        there = [name for name, share in corpus_shares(cells, agent).items() if share > 0]
        return cls(0, agent, dict.fromkeys(there, 0.0), recipe.odm.smoothing)

    def updated(self, evidence: Feedback | TrainingLosses) -> Updated:
        """Return the strategy after a round's losses; a category that was not read earns 0."""
        assert isinstance(evidence, TrainingLosses)
        all_tokens = sum(evidence.tokens.values())
        if not all_tokens or not all(math.isfinite(loss) for loss in evidence.loss.values()):
            refused = "losses that are not finite" if all_tokens else "no token had a loss"
            note = f"the bandit keeps its shares: {refused}."
            return Updated(self.next_round(), refused, {"refused": 1}, (note,))
        shares, keep = self.shares[self.agent], self.smoothing
        reward = {}
        for name, before in self.reward.items():
            loss = evidence.loss.get(name, 0.0)
            new = importance_weighted(loss, all_tokens, shares[name])
            reward[name] = keep * before + (1.0 - keep) * new
        return Updated(replace(self.next_round(), reward=reward))

    def next_round(self) -> Self:
        """Return the strategy of the next round, with the rewards so far."""
        return replace(self, round=self.round + 1)

    def to_json(self) -> dict[str, Any]:
        """Return round, agent and rewards as JSON values."""
        saved = SavedOdm(self.name, self.round, self.agent, self.reward)
        values: dict[str, Any] = to_json(saved)
        return values

    @classmethod
    def from_json(cls, value: object, path: Path, recipe: Recipe) -> Self:
        """Return the strategy from JSON values; raises DataError for a bad state."""
        saved = from_json(SavedOdm, value, path, WHAT, REMEDY)
        if not saved.reward:
            raise DataError(f"{path} is not {WHAT}: it has no category. {REMEDY}")
        return cls(saved.round, saved.agent, saved.reward, recipe.odm.smoothing)
