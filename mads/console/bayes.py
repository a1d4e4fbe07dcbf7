"""The console's score is an additive model of categories, so fit exactly that, and keep fitting.

    reward of a document = round's level + Σ_A effect[A, category] + noise

Effects of all agents are fitted together by Bayesian linear regression, so one agent's category
does not get the credit of another's that it often comes with. Between rounds they drift: each
keeps a share ρ of itself and gains fresh uncertainty, with half of what is known forgotten after
``half_life`` rounds (a Kalman filter whose prior is its stationary state). How large an agent's
effects are is learnt too (MacKay 1992): an agent that says nothing of rewards shrinks to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np

from mads.codec import Within, from_json
from mads.console.guards import GuardedConfig
from mads.console.numbers import REMEDY, WHAT, Number
from mads.errors import DataError
from mads.types import ConsoleState, DocumentRewards, Feedback, Floats


@dataclass(frozen=True, slots=True)
class BayesConfig(GuardedConfig):
    """``bayes``: effects of all agents' categories at once, filtered over rounds."""

    # Rounds after which half of what is known is forgotten
    half_life: Annotated[float, Within(0.01, 1e9)] = 4.0
    explore: Annotated[float, Within(-100, 100)] = 0.0  # standard deviations added to each effect


@dataclass(frozen=True, slots=True)
class Belief:
    """What this rule remembers: effects of categories on rewards, jointly normal.

    Keys are ``agent/category``; the unit is one standard deviation of document rewards.
    """

    mean: Mapping[str, Number]
    covariance: Mapping[str, Mapping[str, Number]]
    scale: Mapping[str, Number]  # agent -> standard deviation of its categories' effects


GAIN = 1.5  # score of an effect as large as the standard deviation of document rewards
FIRST_SCALE = 0.3  # standard deviation of an agent's effects before anything is known
LEAST_SCALE = 0.03
LEVEL_VARIANCE = 100.0  # the round's level is as good as free
OUTLIER = 2.0  # rewards further away than this many standard deviations count as this far
ITERATIONS = 12
LEAST_NOISE = 1e-3
EVEN = 0.05  # effects much smaller than this leave θ equal


@dataclass(frozen=True, slots=True)
class Posterior:
    """Normal belief over P effects: mean (P,) and covariance (P, P)."""

    mean_P: Floats
    covariance_PP: Floats


def standardised(reward_N: Floats) -> Floats:
    """Return rewards with mean 0 and standard deviation 1, after outliers were drawn in.

    Outliers are told by the median and the distance between the 16% and the 84% quantile, which
    they cannot move; without such a distance, by the standard deviation.
    """
    low, middle, high = np.quantile(reward_N, (0.16, 0.5, 0.84))
    spread = float(high - low) / 2 or float(np.std(reward_N))
    if not spread > 0:
        return np.zeros(len(reward_N))
    value_N = np.clip((reward_N - middle) / spread, -OUTLIER, OUTLIER)
    centred_N: Floats = value_N - value_N.mean()
    scaled_N: Floats = centred_N / centred_N.std()
    return scaled_N


def drifted(belief: Posterior, scale_P: Floats, keep: float) -> Posterior:
    """Return the belief a round later: mean ρm, covariance ρ²P + (1 − ρ²) diag(scale²)."""
    fresh = np.diag((1 - keep * keep) * scale_P**2)
    return Posterior(keep * belief.mean_P, keep * keep * belief.covariance_PP + fresh)


def regressed(prior: Posterior, design_NP: Floats, value_N: Floats, noise: float) -> Posterior:
    """Return the posterior of β in ``value = design · β + noise`` with noise of this variance."""
    precision = np.linalg.inv(prior.covariance_PP)
    covariance = np.linalg.inv(precision + design_NP.T @ design_NP / noise)
    mean = covariance @ (precision @ prior.mean_P + design_NP.T @ value_N / noise)
    return Posterior(np.asarray(mean, np.float64), np.asarray(covariance, np.float64))


def effect_scale(mean: Floats, variance: Floats, scale: float) -> float:
    """Return the evidence's estimate of effects' standard deviation: √(Σ m² / Σ (1 − P / scale²)).

    Source: MacKay 1992, Bayesian interpolation; the denominator counts well-determined effects.
    """
    determined = float(np.sum(1 - np.minimum(variance / scale**2, 1.0)))
    if determined < 1e-9:
        return scale
    return max(float(np.sqrt(np.sum(mean**2) / determined)), LEAST_SCALE)


def bayes_update(state: ConsoleState, feedback: Feedback, config: BayesConfig) -> ConsoleState:
    """Fit the effects to a round's rewards, then turn them into w and θ.

    θ goes with the standard deviation that an agent's effects give to documents' scores, and
    w = 1 + GAIN · effect / θ, so that Σ θ w (equation 6) is one plus the fitted effects. Documents
    are not weighted by their sampling rate: given the categories it says nothing of the reward.
    """
    assert state.memory is None or isinstance(state.memory, Belief)
    belief = fitted(state, state.memory, feedback, config.half_life)
    return _state(state, feedback, config, belief)


def fitted(
    state: ConsoleState, belief: Belief | None, feedback: Feedback, half_life: float
) -> Belief:
    """Return what is known of the effects after a round's rewards, and ``belief`` before them."""
    documents = feedback.documents
    keys = [(agent, name) for agent, table in state.weights.items() for name in table]
    scale = dict(belief.scale) if belief else dict.fromkeys(state.weights, FIRST_SCALE)
    keep = 0.5 ** (1.0 / half_life)
    design_NP = np.hstack([design(documents, keys), np.ones((len(documents.reward_N), 1))])
    value_N = standardised(documents.reward_N)
    noise = 1.0
    for _ in range(ITERATIONS):
        scale_P = np.array([scale[agent] for agent, _ in keys])
        prior = _prior(state, belief, keys, scale_P, keep)
        found = regressed(_with_level(prior), design_NP, value_N, noise)
        residual_N = value_N - design_NP @ found.mean_P
        noise = max(float(np.mean(residual_N**2)), LEAST_NOISE)
        found = Posterior(found.mean_P[:-1], found.covariance_PP[:-1, :-1])
        scale = {agent: _scale_of(agent, keys, found, scale[agent]) for agent in scale}
    names = effect_names(state.weights)
    rows = found.covariance_PP.tolist()
    return Belief(
        dict(zip(names, found.mean_P.tolist(), strict=True)),
        {a: dict(zip(names, row, strict=True)) for a, row in zip(names, rows, strict=True)},
        scale,
    )


def effect_names(weights: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return ``agent/category`` of each category, in order: the keys of a belief."""
    return [f"{agent}/{name}" for agent, table in weights.items() for name in table]


def read_belief(value: object, state: ConsoleState, path: Path) -> Belief:
    """Return a belief from JSON values; raises DataError unless it fits the state's categories."""
    return check_belief(from_json(Belief, value, path, WHAT, REMEDY), state, path)


def check_belief(belief: Belief, state: ConsoleState, path: Path) -> Belief:
    """Return the belief; raises DataError unless it fits the state's categories."""
    names = set(effect_names(state.weights))
    rows = [belief.mean, belief.covariance, *belief.covariance.values()]
    if any(row.keys() != names for row in rows) or belief.scale.keys() != state.weights.keys():
        raise DataError(
            f"{path} is not {WHAT}: its memory is not of the categories of its weights. {REMEDY}"
        )
    return belief


def joined_belief(belief: Belief, agent: str, categories: Sequence[str]) -> Belief:
    """Return a belief that also holds an agent of which nothing is known yet."""
    names = [f"{agent}/{name}" for name in categories]
    known = dict.fromkeys(belief.mean, 0.0)
    unknown = dict.fromkeys(names, 0.0)
    covariance = {key: {**row, **unknown} for key, row in belief.covariance.items()}
    covariance |= {key: {**known, **unknown, key: FIRST_SCALE**2} for key in names}
    return Belief({**belief.mean, **unknown}, covariance, {**belief.scale, agent: FIRST_SCALE})


def _with_level(prior: Posterior) -> Posterior:
    """Append the round's level, of which nothing is known, as the last effect."""
    size = len(prior.mean_P) + 1
    covariance = np.zeros((size, size))
    covariance[:-1, :-1] = prior.covariance_PP
    covariance[-1, -1] = LEVEL_VARIANCE
    return Posterior(np.append(prior.mean_P, 0.0), covariance)


def design(documents: DocumentRewards, keys: Sequence[tuple[str, str]]) -> Floats:
    """Return one column of zeros and ones per category: which documents it holds."""
    design_NP = np.zeros((len(documents.reward_N), len(keys)))
    for column, (agent, name) in enumerate(keys):
        if agent in documents.agents and name in documents.categories[agent]:
            place = documents.agents.index(agent)
            index = documents.categories[agent].index(name)
            design_NP[:, column] = documents.category_NA[:, place] == index
    return design_NP


def _scale_of(agent: str, keys: Sequence[tuple[str, str]], found: Posterior, scale: float) -> float:
    here = np.array([owner == agent for owner, _ in keys])
    variance = np.diag(found.covariance_PP)
    return effect_scale(found.mean_P[here], variance[here], scale)


def _prior(
    state: ConsoleState,
    belief: Belief | None,
    keys: Sequence[tuple[str, str]],
    scale_P: Floats,
    keep: float,
) -> Posterior:
    """Return the belief before a round; at first, the effects that the weights stand for."""
    if belief is None:
        mean = [(state.weights[a][c] - 1.0) * state.theta[a] / GAIN for a, c in keys]
        return Posterior(np.array(mean), np.diag(scale_P**2))
    names = effect_names(state.weights)
    mean = [belief.mean[name] for name in names]
    covariance = [[belief.covariance[a][b] for b in names] for a in names]
    return drifted(Posterior(np.array(mean), np.array(covariance)), scale_P, keep)


def _state(
    state: ConsoleState,
    feedback: Feedback,
    config: BayesConfig,
    belief: Belief,
) -> ConsoleState:
    effect = {}
    for agent, table in state.weights.items():
        for category in table:
            name = f"{agent}/{category}"
            error = belief.covariance[name][name] ** 0.5
            effect[agent, category] = belief.mean[name] + config.explore * error
    size = {}
    for agent, table in state.weights.items():
        rewards = feedback.categories.get(agent, {})
        share = np.array([rewards[c].share if c in rewards else 0.0 for c in table])
        value = np.array([effect[agent, c] for c in table])
        spread = 0.0
        if share.sum() > 0:
            mean = float(share @ value / share.sum())
            spread = float(share @ (value - mean) ** 2 / share.sum())
        size[agent] = float(np.sqrt(spread + EVEN**2))
    total = sum(size.values())
    theta = {agent: value / total for agent, value in size.items()}
    weights = {
        agent: {c: 1.0 + GAIN * effect[agent, c] / theta[agent] for c in table}
        for agent, table in state.weights.items()
    }
    return replace(state, weights=weights, theta=theta, memory=belief)
