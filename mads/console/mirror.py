"""Mirror descent on the mixture: a slow integrator instead of a ranking.

A reward says what the next step on a category gains, and it falls as the category is read. Scores
that follow rewards in proportion turn this into a swing: much is read of what was read too little.
Here each round multiplies a category's share of what is read by a bounded factor, and shares stay
where they are once the rewards of what is read are equal.

    share of what is read ∝ share of the corpus · exp(Σ_A u[A, category])
    u ← u₀ + (1 − κ) · (u + η · effect − u₀),   and only so far that KL(new ‖ old) ≤ `max_kl`

``effect`` is the posterior mean of ``bayes`` in standard deviations of document rewards, so noise
moves little; u₀ is the prior's mixture. Sources: exponentiated gradient (Kivinen and Warmuth
1997), mirror descent with the KL divergence (Beck and Teboulle 2003).

    u = (0, 0), effects (+0.5, −0.5), η = 1, κ = 0:  u = (0.5, −0.5), shares 1 : 1 become e : 1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np

from mads.codec import Within, from_json
from mads.config import ConsoleConfig, SelectionConfig
from mads.console.bayes import Belief, check_belief, design, effect_names, fitted, joined_belief
from mads.console.numbers import REMEDY, WHAT, Number
from mads.console.tilt import largest_step, tilted
from mads.errors import DataError
from mads.types import ConsoleState, Feedback, Floats

Key = tuple[str, str]

TEMPERATURE = SelectionConfig().temperature  # the policy's default, which scores are scaled for
EVEN = 0.05  # log-factors much smaller than this leave θ equal


@dataclass(frozen=True, slots=True)
class MirrorConfig(ConsoleConfig):
    """``mirror``: shares move by bounded factors, and rest where rewards are equal."""

    # η: what an effect of one standard deviation adds to a category's log-share in a round
    step: Annotated[float, Within(0, 100)] = 1.0
    # κ: share of the way back to the prior's mixture, each round
    pull: Annotated[float, Within(0, 1)] = 0.05
    max_kl: Annotated[float, Within(1e-6, 100)] = 0.1  # nats from one mixture to the next
    max_factor: Annotated[float, Within(1, 1e6)] = 30.0  # of a share against the prior's
    half_life: Annotated[float, Within(0.01, 1e9)] = 1.0  # rounds, of the effects (see `bayes`)


@dataclass(frozen=True, slots=True)
class Mixture:
    """What this rule remembers. Keys are ``agent/category``; numbers are log-factors of shares."""

    belief: Belief
    log_factor: Mapping[str, Number]
    start: Mapping[str, Number]


def mirror_update(state: ConsoleState, feedback: Feedback, config: MirrorConfig) -> ConsoleState:
    """Move the mixture by one bounded step along the fitted effects."""
    keys = [(agent, name) for agent, table in state.weights.items() for name in table]
    memory = state.memory
    assert memory is None or isinstance(memory, Mixture)
    names = effect_names(state.weights)
    start_P = _log_factors(state, keys) if memory is None else _vector(memory.start, names)
    old_P = start_P if memory is None else _vector(memory.log_factor, names)
    belief = fitted(state, memory.belief if memory else None, feedback, config.half_life)
    effect_P = _vector(belief.mean, names)
    documents = feedback.documents
    member_NP = design(documents, keys)
    share_N = documents.weight_N * documents.tokens_N
    share_N = share_N / share_N.sum()
    goal_P = start_P + (1 - config.pull) * (old_P + config.step * effect_P - start_P)
    limit = np.log(config.max_factor)
    goal_P = start_P + np.clip(goal_P - start_P, -limit, limit)
    goal_P = np.where(member_NP.any(axis=0), goal_P, old_P)  # what was not probed stays
    step = largest_step(share_N, member_NP @ old_P, member_NP @ goal_P, config.max_kl)
    new_P = old_P + step * (goal_P - old_P)
    read_N = tilted(share_N, member_NP @ new_P)
    kept = Mixture(
        belief,
        dict(zip(names, new_P.tolist(), strict=True)),
        dict(zip(names, start_P.tolist(), strict=True)),
    )
    return _with_weights(replace(state, memory=kept), keys, new_P, member_NP.T @ read_N)


def read_mixture(value: object, state: ConsoleState, path: Path) -> Mixture:
    """Return a mixture from JSON values; raises DataError unless it fits the state's categories."""
    found = from_json(Mixture, value, path, WHAT, REMEDY)
    check_belief(found.belief, state, path)
    names = set(effect_names(state.weights))
    if found.log_factor.keys() != names or found.start.keys() != names:
        raise DataError(
            f"{path} is not {WHAT}: its mixture is not of the categories of its weights. {REMEDY}"
        )
    return found


def joined_mixture(memory: Mixture, agent: str, categories: Sequence[str]) -> Mixture:
    """Return a mixture that also holds an agent of which nothing is known: its factors are 1."""
    even = {f"{agent}/{name}": 0.0 for name in categories}
    belief = joined_belief(memory.belief, agent, categories)
    return Mixture(belief, {**memory.log_factor, **even}, {**memory.start, **even})


def _vector(table: Mapping[str, float], names: Sequence[str]) -> Floats:
    return np.array([table[name] for name in names])


def _log_factors(state: ConsoleState, keys: Sequence[Key]) -> Floats:
    """Return the log-factors of shares that a state's weights stand for: θ (w − 1) / τ."""
    return np.array([state.theta[a] * (state.weights[a][c] - 1.0) / TEMPERATURE for a, c in keys])


def _with_weights(
    state: ConsoleState, keys: Sequence[Key], log_factor_P: Floats, read_P: Floats
) -> ConsoleState:
    """Return the state whose scores are one plus the temperature times the log-factors.

    θ goes with the standard deviation that an agent's log-factors have over what is read.
    """
    size = {}
    for agent in state.weights:
        here = np.array([owner == agent for owner, _ in keys])
        total = max(float(read_P[here].sum()), 1e-300)
        size[agent] = float(np.sqrt(read_P[here] @ log_factor_P[here] ** 2 / total + EVEN**2))
    whole = sum(size.values())
    theta = {agent: value / whole for agent, value in size.items()}
    weights: dict[str, dict[str, float]] = {agent: {} for agent in state.weights}
    for (agent, name), value in zip(keys, log_factor_P.tolist(), strict=True):
        weights[agent][name] = 1.0 + TEMPERATURE * value / theta[agent]
    return replace(state, theta=theta, weights=weights)
