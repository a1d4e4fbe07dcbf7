"""The agent console: rewards in, category weights ``w`` and collaborative weights ``θ`` out.

Pure functions: no I/O, no torch, no randomness. RULES names the update rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mads.config import ConsoleConfig
from mads.console.bayes import BayesConfig, bayes_update, joined_belief, read_belief
from mads.console.guards import GuardedConfig, guarded
from mads.console.mirror import MirrorConfig, joined_mixture, mirror_update, read_mixture
from mads.console.paper import PaperConfig, paper_update
from mads.console.stable import StableConfig, stable_update
from mads.errors import DataError, UsageError, did_you_mean
from mads.types import ConsoleState, Feedback


@dataclass(frozen=True, slots=True)
class Rule:
    """An update rule: its section of the recipe, and the weights after a round of feedback.

    Guard rails hold after a rule whose section is a ``GuardedConfig``. ``read_memory`` makes the
    rule's memory from JSON values, for the state that it belongs to, and ``joined`` puts an agent
    into it that appears in the middle of a run; None for a rule without one.
    """

    section: type[ConsoleConfig]
    update: Callable[[ConsoleState, Feedback, Any], ConsoleState]
    read_memory: Callable[[object, ConsoleState, Path], object] | None = None
    joined: Callable[[Any, str, Sequence[str]], object] | None = None


RULES: dict[str, Rule] = {
    "bayes": Rule(BayesConfig, bayes_update, read_belief, joined_belief),
    "mirror": Rule(MirrorConfig, mirror_update, read_mixture, joined_mixture),
    "paper": Rule(PaperConfig, paper_update),
    "stable": Rule(StableConfig, stable_update),
}

RULE_SECTIONS = {name: rule.section for name, rule in RULES.items()}


@dataclass(frozen=True, slots=True)
class ConsoleUpdate:
    """The next state; ``refused`` says why a round's rewards were not used ("" if they were).

    ``guards`` counts how often each guard rail acted.
    """

    state: ConsoleState
    refused: str = ""
    guards: Mapping[str, int] = field(default_factory=dict)


def initial_state(
    categories: Mapping[str, Sequence[str]], prior: Mapping[str, Mapping[str, float]] | None = None
) -> ConsoleState:
    """Return the state of round 0: ``w`` is 1 or the prior's, ``θ`` 1 / number of agents.

    Raises UsageError for a prior of an unknown agent or category.
    """
    weights = {agent: dict.fromkeys(names, 1.0) for agent, names in categories.items()}
    for agent, table in (prior or {}).items():
        if agent not in weights:
            raise UsageError(
                f"console.prior.{agent}: no such agent; {did_you_mean(agent, weights)}"
            )
        for name, value in table.items():
            if name not in weights[agent]:
                near = did_you_mean(name, weights[agent])
                raise UsageError(f"console.prior.{agent}.{name}: no such category; {near}")
            weights[agent][name] = value
    return ConsoleState(0, weights, dict.fromkeys(categories, 1.0 / max(len(categories), 1)))


def with_agent(state: ConsoleState, agent: str, categories: Sequence[str]) -> ConsoleState:
    """Return a state in which an agent counts that appears in the middle of a run.

    Nothing changes for the others. The new one has equal weights of 1 and the others' mean θ, so
    all scores rise by the same; the next update weighs it against them. An agent that is there
    already with these categories keeps its weights.
    """
    if agent in state.weights:
        assert list(state.weights[agent]) == list(categories), "the same bins in every generation"
        return state
    theta = sum(state.theta.values()) / max(len(state.theta), 1)
    joined = RULES[state.rule].joined if state.rule else None
    return replace(
        state,
        weights={**state.weights, agent: dict.fromkeys(categories, 1.0)},
        theta={**state.theta, agent: theta},
        memory=joined(state.memory, agent, categories) if joined else state.memory,
    )


def update(state: ConsoleState, feedback: Feedback, config: ConsoleConfig) -> ConsoleUpdate:
    """Return the state after one round of rewards, under the rule of the recipe.

    A reward that is not finite, and rewards without any category, refuse the whole round: weights
    and θ stay as they are. A category that was not probed keeps its weight. Raises DataError for a
    state that another rule has made.
    """
    if state.rule not in ("", config.rule):
        raise DataError(
            f"the console state was made by the rule {state.rule!r}, but console.rule is "
            f"{config.rule!r}. Give the recipe that it was made with."
        )
    refused = _refusal(feedback)
    if refused:
        return ConsoleUpdate(replace(state, round=state.round + 1), refused, {"refused": 1})
    known = {
        agent: {c: r for c, r in found.items() if c in state.weights[agent]}
        for agent, found in feedback.categories.items()
        if agent in state.weights
    }
    new = RULES[config.rule].update(state, replace(feedback, categories=known), config)
    new = replace(new, round=state.round + 1, rule=config.rule)
    if not isinstance(config, GuardedConfig):
        return ConsoleUpdate(new)
    limits = (config.weight_limit, config.min_entropy, config.theta_floor)
    new, acted = guarded(new, known, *limits)
    return ConsoleUpdate(new, guards=acted)


def _refusal(feedback: Feedback) -> str:
    if not any(feedback.categories.values()):
        return "no category was probed"
    bad = [
        f"{agent}/{category}"
        for agent, found in feedback.categories.items()
        for category, reward in found.items()
        if not (math.isfinite(reward.mean) and math.isfinite(reward.stderr))
    ]
    if bad:
        return f"rewards that are not finite: {', '.join(bad)}"
    broken = int((~np.isfinite(feedback.documents.reward_N)).sum())
    return f"rewards of {broken} documents are not finite" if broken else ""
