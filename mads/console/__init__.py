"""The agent console: rewards in, category weights ``w`` and collaborative weights ``θ`` out.

Pure functions: no I/O, no torch, no randomness. RULES names the update rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mads.config import ConsoleConfig
from mads.console.paper import paper_update
from mads.console.stable import stable_update
from mads.types import CategoryRewards, ConsoleState

Rule = Callable[[ConsoleState, CategoryRewards, ConsoleConfig], ConsoleState]

RULES: dict[str, Rule] = {"paper": paper_update, "stable": stable_update}


@dataclass(frozen=True, slots=True)
class ConsoleUpdate:
    """The next state; ``refused`` says why a round's rewards were not used ("" if they were)."""

    state: ConsoleState
    refused: str = ""


def initial_state(categories: Mapping[str, Sequence[str]]) -> ConsoleState:
    """Return the state of round 0: every ``w`` is 1, every ``θ`` is 1 / number of agents."""
    return ConsoleState(
        round=0,
        weights={agent: dict.fromkeys(names, 1.0) for agent, names in categories.items()},
        theta=dict.fromkeys(categories, 1.0 / max(len(categories), 1)),
    )


def update(state: ConsoleState, rewards: CategoryRewards, config: ConsoleConfig) -> ConsoleUpdate:
    """Return the state after one round of rewards, under the rule of the recipe.

    A reward that is not finite, and rewards without any category, refuse the whole round: weights
    and θ stay as they are. A category that was not probed keeps its weight.
    """
    refused = _refusal(rewards)
    if refused:
        return ConsoleUpdate(replace(state, round=state.round + 1), refused)
    known = {
        agent: {c: r for c, r in found.items() if c in state.weights[agent]}
        for agent, found in rewards.items()
        if agent in state.weights
    }
    return ConsoleUpdate(RULES[config.rule](state, known, config))


def _refusal(rewards: CategoryRewards) -> str:
    if not any(rewards.values()):
        return "no category was probed"
    bad = [
        f"{agent}/{category}"
        for agent, found in rewards.items()
        for category, reward in found.items()
        if not (math.isfinite(reward.mean) and math.isfinite(reward.stderr))
    ]
    return f"rewards that are not finite: {', '.join(bad)}" if bad else ""
