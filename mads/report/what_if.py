"""What other weights would change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mads.errors import UsageError, did_you_mean
from mads.export.command import Request
from mads.selection.composition import composition
from mads.types import ConsoleState


def scaled_theta(state: ConsoleState, text: str) -> ConsoleState:
    """Return a state whose θ are multiplied as in ``quality=2,domain=0``; their sum is kept.

    Raises UsageError for an unknown agent, a factor that is not a number, or nothing left.
    """
    factors = dict.fromkeys(state.theta, 1.0)
    for part in text.split(","):
        agent, equals, number = part.strip().partition("=")
        if agent not in factors:
            raise UsageError(f"--what-if: {agent!r} is no agent; {did_you_mean(agent, factors)}")
        try:
            factors[agent] = float(number)
        except ValueError:
            factors[agent] = -1.0
        if not equals or not 0 <= factors[agent] < float("inf"):
            raise UsageError(f"--what-if {part!r} is not of the form agent=factor (0 or more).")
    theta = {agent: value * factors[agent] for agent, value in state.theta.items()}
    total = sum(theta.values())
    if total <= 0:
        raise UsageError(f"--what-if {text!r} leaves no agent.")
    scale = sum(state.theta.values()) / total
    return replace(state, theta={agent: value * scale for agent, value in theta.items()})


def try_what_if(request: Request, factors: str) -> dict[str, Any]:
    """Return each category's share of tokens under θ as it is and under scaled θ; write nothing."""
    state, cursors = request.state()
    cells = request.store.cells
    plans = [request.plan(s, cursors) for s in (state, scaled_theta(state, factors))]
    return {
        f"budget_{request.unit}": request.budget,
        "composition": composition(cells, plans[0].to_tokens(cells), plans[1].to_tokens(cells)),
    }
