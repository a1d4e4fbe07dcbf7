"""What other weights would change."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mads.config import Recipe
from mads.errors import UsageError, did_you_mean
from mads.export.command import Followed, Request
from mads.selection.composition import Shares, composition
from mads.selection.plan import Cursors
from mads.store.store import Store
from mads.strategies.strategy import Strategy
from mads.strategies.weighted import Weighted
from mads.types import ConsoleState
from mads.units import Budget, shorten


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Each category's share of tokens under θ as it is and under other θ, for one budget."""

    budget_tokens: int | None
    budget_docs: int | None
    composition: Shares


def scaled_theta(state: ConsoleState, text: str) -> ConsoleState:
    """Return a state whose θ are multiplied as in ``quality=2,domain=0``; their sum is kept.

    Raises UsageError for an unknown agent or the same one twice, a factor that is not a number,
    or nothing left.
    """
    factors = dict.fromkeys(state.theta, 1.0)
    given: set[str] = set()
    for part in text.split(","):
        agent, equals, number = part.strip().partition("=")
        if agent not in factors:
            known = did_you_mean(agent, factors)
            raise UsageError(f"--theta: {shorten(agent)} is no agent; {known}")
        if agent in given:
            raise UsageError(
                f"--theta {shorten(text)} names {shorten(agent)} twice. Give each agent one factor."
            )
        given.add(agent)
        try:
            factors[agent] = float(number)
        except ValueError:
            factors[agent] = -1.0
        if not equals or not 0 <= factors[agent] < float("inf"):
            raise UsageError(f"--theta {shorten(part)} is not of the form agent=factor, 0 or more.")
    theta = {agent: value * factors[agent] for agent, value in state.theta.items()}
    total = sum(theta.values())
    if not 0 < total < float("inf"):
        raise UsageError(f"--theta {shorten(text)} leaves no agent, or is too large.")
    scale = sum(state.theta.values()) / total
    return replace(state, theta={agent: value * scale for agent, value in theta.items()})


def try_what_if(
    store: Store, strategy: Strategy, cursors: Cursors, budget: Budget, recipe: Recipe, factors: str
) -> WhatIf:
    """Compare the selections under θ as it is and under scaled θ; write nothing.

    Raises UsageError for a strategy that has no θ.
    """
    if not isinstance(strategy, Weighted):
        raise UsageError(f"--theta: the strategy {strategy.name!r} has no θ to multiply.")
    other = replace(strategy, state=scaled_theta(strategy.state, factors))
    cells = store.cells
    before, after = (
        Request(Followed(s.scores(cells), s.to_json(), cursors), budget, recipe).plan(cells)
        for s in (strategy, other)
    )
    return WhatIf(
        budget_tokens=budget.amount if budget.unit == "tokens" else None,
        budget_docs=budget.amount if budget.unit == "docs" else None,
        composition=composition(cells, before.to_tokens(cells), after.to_tokens(cells)),
    )
