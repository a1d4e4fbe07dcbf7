"""Floors and caps: the least and the largest share of the budget that a category may have.

A bound that the free solution breaks is made exact: the category gets just its bound, filled by
the policy among its own levels, and is then left alone, while the others share what remains.
Floors come first; a category that is above its cap even so is put at its cap, and the floors are
found anew, since it leaves more for the others. Each turn settles one category, so it ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mads.config import SelectionConfig
from mads.errors import UsageError, did_you_mean
from mads.types import Cells, Floats

Fill = Callable[[Floats, float], Floats]
"""(sizes of levels, 0 where not allowed; budget) -> share of each level, by the policy."""

TOLERANCE = 1e-9  # of the budget
SUM_TOLERANCE = 1e-6  # of shares that add up to 1


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """One category's floor and cap, as shares of the budget, and the levels it has."""

    name: str
    low: float
    high: float
    mine_L: NDArray[np.bool_]

    def excess(self, quota_L: Floats, budget: float) -> float:
        """Return by how much the category is above its cap; 0 within the tolerance."""
        above = float(quota_L[self.mine_L].sum()) - self.high * budget
        return above if above > TOLERANCE * budget else 0.0

    def lack(self, quota_L: Floats, budget: float) -> float:
        """Return by how much the category is below its floor; 0 within the tolerance."""
        below = self.low * budget - float(quota_L[self.mine_L].sum())
        return below if below > TOLERANCE * budget else 0.0


def with_shares(
    config: SelectionConfig, shares: Mapping[str, Mapping[str, float]]
) -> SelectionConfig:
    """Return the section with a strategy's shares as floor and cap alike."""
    held = {agent: dict(table) for agent, table in shares.items()}
    return replace(
        config, min_share={**config.min_share, **held}, max_share={**config.max_share, **held}
    )


def exact_budget(cells: Cells, config: SelectionConfig) -> float:
    """Return the largest budget, in tokens, of which each category with floor = cap has its share.

    A selection reads a category once at most, so a larger one would hold less of a small category.
    """
    largest = math.inf
    for agent, floors in config.min_share.items():
        names, caps = cells.categories[agent], config.max_share.get(agent, {})
        tokens_J = cells.by_category(agent, cells.num_tokens_C)
        for name, share in floors.items():
            if share > 0 and caps.get(name) == share and (size := tokens_J[names.index(name)]) > 0:
                largest = min(largest, float(size) / share)
    return largest


def find_bounds(cells: Cells, config: SelectionConfig, cell_L: NDArray[np.int64]) -> list[Bound]:
    """Return the recipe's bounds; raises UsageError for an unknown name or impossible shares."""
    names: dict[tuple[str, str], None] = {}
    for key, table in (("min_share", config.min_share), ("max_share", config.max_share)):
        for agent, shares in table.items():
            _check_names(cells, f"selection.{key}.{agent}", agent, shares)
            names |= {(agent, category): None for category in shares}
        for agent, shares in config.min_share.items():
            if sum(shares.values()) > 1 + SUM_TOLERANCE:
                raise UsageError(
                    f"selection.min_share.{agent}: the floors add up to {sum(shares.values()):g}, "
                    "expected at most 1."
                )
    bounds = []
    for agent, category in names:
        column = cells.agents.index(agent)
        index = cells.categories[agent].index(category)
        low = config.min_share.get(agent, {}).get(category, 0.0)
        high = config.max_share.get(agent, {}).get(category, 1.0)
        if low > high:
            raise UsageError(
                f"selection: the floor of {agent}.{category} ({low:g}) is above its cap ({high:g})."
            )
        mine_L = cells.category_CA[cell_L, column] == index
        bounds.append(Bound(f"{agent}.{category}", low, high, mine_L))
    return bounds


def _check_names(cells: Cells, place: str, agent: str, names: Iterable[str]) -> None:
    if agent not in cells.agents:
        raise UsageError(
            f"{place}: the store has no such agent; {did_you_mean(agent, cells.agents)}"
        )
    for category in names:
        if category not in cells.categories[agent]:
            known = cells.categories[agent]
            raise UsageError(
                f"{place}.{category}: no such category; {did_you_mean(category, known)}"
            )


def bounded_shares(size_L: Floats, budget: float, bounds: list[Bound], fill: Fill) -> Floats:
    """Return each level's share under the bounds; what a cap leaves unused goes to the others.

    A floor above all that a category has takes all of it. When caps leave too little, the shares
    add up to less than the budget.
    """
    capped: list[Bound] = []
    while True:
        quota_L = _with_floors(size_L, budget, bounds, capped, fill)
        over = [b for b in bounds if b not in capped and b.excess(quota_L, budget) > 0]
        if not over:
            break
        capped.append(max(over, key=lambda b: b.excess(quota_L, budget)))
    share_L = np.divide(quota_L, size_L, out=np.zeros_like(size_L), where=size_L > 0)
    return np.clip(share_L, 0.0, 1.0)


def _with_floors(
    size_L: Floats, budget: float, bounds: list[Bound], capped: list[Bound], fill: Fill
) -> Floats:
    """Return the quotas with the given categories at their caps and no floor broken."""
    fixed_L = np.zeros(len(size_L))
    settled_L = np.zeros(len(size_L), bool)
    turn = [(bound, bound.high) for bound in capped]
    waiting = [bound for bound in bounds if bound not in capped]
    while True:
        for bound, share in turn:
            open_L = np.where(bound.mine_L & ~settled_L, size_L, 0.0)
            goal = share * budget - float(fixed_L[bound.mine_L].sum())
            goal = max(min(goal, budget - float(fixed_L.sum())), 0.0)
            fixed_L = fixed_L + fill(open_L, goal) * open_L
            settled_L = settled_L | bound.mine_L
        free_L = np.where(settled_L, 0.0, size_L)
        quota_L: Floats = fixed_L + fill(free_L, max(budget - float(fixed_L.sum()), 0.0)) * free_L
        under = [b for b in waiting if b.lack(quota_L, budget) > 0]
        if not under:
            return quota_L
        worst = max(under, key=lambda b: b.lack(quota_L, budget))
        waiting.remove(worst)
        turn = [(worst, worst.low)]
