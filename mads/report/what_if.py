"""What other weights would change."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mads.errors import UsageError, did_you_mean
from mads.export.command import Request
from mads.selection.composition import Shares, composition
from mads.types import ConsoleState
from mads.units import shorten


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Each category's share of tokens under θ as it is and under other θ, for one budget."""

    budget_tokens: int | None
    budget_docs: int | None
    composition: Shares


def scaled_theta(state: ConsoleState, text: str) -> ConsoleState:
    """Return a state whose θ are multiplied as in ``quality=2,domain=0``; their sum is kept.

    Raises UsageError for an unknown agent, a factor that is not a number, or nothing left.
    """
    factors = dict.fromkeys(state.theta, 1.0)
    for part in text.split(","):
        agent, equals, number = part.strip().partition("=")
        if agent not in factors:
            known = did_you_mean(agent, factors)
            raise UsageError(f"--theta: {shorten(agent)} is no agent; {known}")
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


def try_what_if(request: Request, factors: str) -> WhatIf:
    """Compare the selections under θ as it is and under scaled θ; write nothing."""
    state, cursors = request.state()
    cells, budget = request.store.cells, request.budget
    plans = [request.plan(s, cursors) for s in (state, scaled_theta(state, factors))]
    return WhatIf(
        budget_tokens=budget.amount if budget.unit == "tokens" else None,
        budget_docs=budget.amount if budget.unit == "docs" else None,
        composition=composition(cells, plans[0].to_tokens(cells), plans[1].to_tokens(cells)),
    )
