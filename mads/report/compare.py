"""What a comparison says: losses of its arms by seed, paired with the baseline's, and their cost.

Losses are in nats per token of the answer, lower is better. *References* is the mean over the
reference tasks, *held-out* over the evaluation tasks, which no arm learns from. Seeds are paired:
under one seed all arms begin with the same weights and are judged on the same items.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mads.codec import Count, from_json, to_json
from mads.config import Recipe
from mads.errors import DataError
from mads.experiments.arms import Arms
from mads.experiments.comparison import open_run
from mads.files import json_sha256, read_sealed_json, write_sealed_json
from mads.layout import ComparisonDir
from mads.recipe import to_table
from mads.report.statistics import Estimate, estimate, geometric, tokens_to_reach
from mads.rewards.cost import STEP, Work, reward_flops
from mads.run.reader import Run, RunRound
from mads.run.records import RoundRecord
from mads.run.schedule import round_bounds
from mads.selection.composition import Composition, shares
from mads.store.store import Store
from mads.tasks.task import by_objective, make_task

REFERENCES = "references"
HELD_OUT = "held-out"
SAME_START = 1e-3  # how far initial losses under one seed may lie apart, relatively
REMEDY = "Run the same `mads compare` again; it writes the file anew."

Losses = Mapping[str, tuple[float, ...]]
"""Name -> losses at the points of a curve."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Losses after so many tokens: at the beginning of each round and at the end."""

    tokens: tuple[int, ...]
    tasks: Losses
    means: Losses  # of REFERENCES and HELD_OUT, as far as there are such tasks


@dataclass(frozen=True, slots=True)
class RoundRead:
    """What a round has read: how its selection's tokens are shared by categories."""

    round: int
    tokens: int
    shares: Composition


@dataclass(frozen=True, slots=True)
class Cost:
    """Floating-point operations: 6 for each parameter and token trained, and those for rewards.

    Evaluation, and labelling the corpus once for all runs, are not counted.
    """

    training: float
    selection: float


@dataclass(frozen=True, slots=True)
class ArmRun:
    """One run of an arm."""

    seed: int
    curve: Curve
    rounds: tuple[RoundRead, ...]
    read: Composition  # of all rounds
    cost: Cost


@dataclass(frozen=True, slots=True)
class Needed:
    """Tokens until an arm has the baseline's final loss of the same seed; None: never has.

    ``ratio`` is the baseline's tokens by these, as a geometric mean. It is there when all seeds
    have reached the loss. Otherwise ``at_most`` bounds the mean: a seed that has not, would have
    needed more than all its tokens, so its ratio is below 1.
    """

    tokens: tuple[float | None, ...]
    ratio: Estimate | None
    at_most: float | None


@dataclass(frozen=True, slots=True)
class Arm:
    """What is known of an arm; differences are to the baseline, below 0 = better.

    The baseline itself has no differences and needs nothing.
    """

    fingerprint: str  # of its recipe but for the seed
    runs: tuple[ArmRun, ...]
    tasks: Mapping[str, Estimate]  # final losses
    means: Mapping[str, Estimate]
    task_differences: Mapping[str, Estimate]
    mean_differences: Mapping[str, Estimate]
    needed: Mapping[str, Needed]
    read: Composition  # mean over seeds
    cost: Cost  # mean over seeds


@dataclass(frozen=True, slots=True)
class Comparison:
    """comparison.json."""

    baseline: str
    seeds: tuple[int, ...]
    tokens: Count  # that each run has read
    parameters: Count
    store: str  # its fingerprint
    generation: Count
    references: tuple[str, ...]
    held_out: tuple[str, ...]
    corpus: Composition
    arms: Mapping[str, Arm]


def compare(store: Store, folder: ComparisonDir, arms: Arms, seeds: Sequence[int]) -> Comparison:
    """Read all runs of a comparison.

    Raises DataError for a run that has not ended, was changed, is not its arm's, or did not begin
    as the others of its seed.
    """
    opened = {
        arm: [open_run(folder, store, arms, arm, seed) for seed in seeds] for arm in arms.recipes
    }
    parameters = opened[arms.baseline][0].num_parameters
    runs = {
        arm: tuple(_read_run(run, store, parameters) for run in found)
        for arm, found in opened.items()
    }
    _check_start(folder, runs, arms.baseline)
    recipe = arms.recipes[arms.baseline]
    return Comparison(
        baseline=arms.baseline,
        seeds=tuple(seeds),
        tokens=arms.tokens,
        parameters=parameters,
        store=store.fingerprint,
        generation=store.generation,
        references=tuple(recipe.rewards.tasks),
        held_out=tuple(recipe.evaluation.tasks),
        corpus=shares(store.cells, store.cells.num_tokens_C),
        arms={
            arm: _summary(arms.recipes[arm], found, runs[arms.baseline], arm == arms.baseline)
            for arm, found in runs.items()
        },
    )


def write_comparison(path: Path, found: Comparison) -> None:
    """Write comparison.json."""
    write_sealed_json(path, to_json(found))


def read_comparison(path: Path) -> Comparison:
    """Read comparison.json; raises DataError when it is missing, damaged or none."""
    return from_json(Comparison, read_sealed_json(path, REMEDY), path, "a comparison", REMEDY)


def _read_run(run: Run, store: Store, parameters: int) -> ArmRun:
    rounds = tuple(_read_round(one, store) for one in run.rounds)
    return ArmRun(
        seed=run.recipe.seed,
        curve=curve_of(run),
        rounds=rounds,
        read=_mean_shares([one.shares for one in rounds], [one.tokens for one in rounds]),
        cost=_cost(run, store, parameters),
    )


def curve_of(run: Run) -> Curve:
    """Return the losses of a run by the tokens that it had read."""
    recipe, losses = run.recipe, run.losses
    tasks = [*recipe.rewards.tasks, *recipe.evaluation.tasks]
    names = {REFERENCES: [*recipe.rewards.tasks], HELD_OUT: [*recipe.evaluation.tasks]}
    return Curve(
        tokens=tuple(step * recipe.training.batch_tokens for step in losses),
        tasks={name: tuple(at[name] for at in losses.values()) for name in tasks},
        means={
            group: tuple(math.fsum(at[n] for n in of) / len(of) for at in losses.values())
            for group, of in names.items()
            if of
        },
    )


def _read_round(one: RunRound, store: Store) -> RoundRead:
    """Return what a round has read.

    A round reads its selection in a shuffled order, and perhaps not all of it: shares are those of
    the selection, and tokens those of its optimizer steps.
    """
    start, stop = round_bounds(one.number, one.recipe)
    tokens = (stop - start) * one.recipe.training.batch_tokens
    return RoundRead(one.number, tokens, one.read(store))


def _mean_shares(parts: Sequence[Composition], weights: Sequence[float]) -> Composition:
    """Return the weighted mean of several compositions."""
    return {
        agent: {
            name: float(np.average([one[agent][name] for one in parts], weights=weights))
            for name in names
        }
        for agent, names in parts[0].items()
    }


def _cost(run: Run, store: Store, parameters: int) -> Cost:
    recipe, rounds = run.recipe, run.rounds
    tokens = recipe.training.steps * recipe.training.batch_tokens
    records = [r for r in run.records if isinstance(r, RoundRecord) and r.feedback is not None]
    reference_tokens = _reference_tokens(recipe, store) if records else 0
    total = 0.0
    for record in records:
        assert record.feedback is not None
        rewards = rounds[record.round].rewards()
        names = rewards.column_names if rewards is not None else []
        work = Work(
            probes=record.feedback.probes,
            probe_tokens=record.feedback.probe_tokens,
            # Several directions have a column each beside the one of all.
            directions=max(sum(name.startswith("reward_") for name in names), 1),
            reference_tokens=reference_tokens,
            oracle_docs=recipe.rewards.oracle_docs,
        )
        total += parameters * reward_flops(recipe.rewards.estimator, work)
    return Cost(float(STEP * parameters * tokens), total)


def _reference_tokens(recipe: Recipe, store: Store) -> int:
    """Return how many tokens the gradients of all reference losses read, once."""
    context, seed = recipe.training.context, recipe.evaluation.seed
    return sum(
        len(item.tokens_T)
        for name, config in recipe.rewards.tasks.items()
        for task in by_objective(
            make_task(name, config, store.tokenizer, context, seed), config.objective
        )
        for item in task.items
    )


def _check_start(
    folder: ComparisonDir, runs: Mapping[str, Sequence[ArmRun]], baseline: str
) -> None:
    """Raise DataError unless all arms have the same losses before the first step of a seed."""
    for arm, found in runs.items():
        for mine, other in zip(found, runs[baseline], strict=True):
            for task, losses in mine.curve.tasks.items():
                first, expected = losses[0], other.curve.tasks[task][0]
                if abs(first - expected) > SAME_START * abs(expected):
                    raise DataError(
                        f"{folder.run(arm, mine.seed).root} did not begin as {baseline} with the "
                        f"same seed: its loss on {task} before the first step is {first:.6g}, "
                        f"expected {expected:.6g}. Were the task's items changed meanwhile? Put "
                        "them back, delete the folder, and run the same `mads compare` again."
                    )


def _summary(recipe: Recipe, runs: tuple[ArmRun, ...], base: tuple[ArmRun, ...], own: bool) -> Arm:
    curves, others = [run.curve for run in runs], [run.curve for run in base]
    tasks, means = curves[0].tasks, curves[0].means
    last = {name: [curve.tasks[name][-1] for curve in curves] for name in tasks}
    last_mean = {name: [curve.means[name][-1] for curve in curves] for name in means}
    against = {name: [curve.tasks[name][-1] for curve in others] for name in tasks}
    against_mean = {name: [curve.means[name][-1] for curve in others] for name in means}
    return Arm(
        fingerprint=json_sha256(to_table(recipe)),
        runs=runs,
        tasks={name: estimate(values) for name, values in last.items()},
        means={name: estimate(values) for name, values in last_mean.items()},
        task_differences={} if own else paired(last, against),
        mean_differences={} if own else paired(last_mean, against_mean),
        needed={} if own else {name: needed(curves, others, name) for name in means},
        read=_mean_shares([run.read for run in runs], [1.0] * len(runs)),
        cost=Cost(
            math.fsum(run.cost.training for run in runs) / len(runs),
            math.fsum(run.cost.selection for run in runs) / len(runs),
        ),
    )


def paired(
    mine: Mapping[str, Sequence[float]], others: Mapping[str, Sequence[float]]
) -> dict[str, Estimate]:
    """Return, by name, the mean difference over seeds; each pair of values has one seed."""
    return {
        name: estimate([a - b for a, b in zip(values, others[name], strict=True)])
        for name, values in mine.items()
    }


def needed(curves: Sequence[Curve], others: Sequence[Curve], name: str) -> Needed:
    """Return how many tokens each curve needs for the final loss of the baseline's own seed."""
    found = tuple(
        tokens_to_reach(mine.tokens, mine.means[name], other.means[name][-1])
        for mine, other in zip(curves, others, strict=True)
    )
    ratios = [  # a loss that is there from the start, when nothing has been learnt, has none
        (1.0 if at is None else other.tokens[-1] / at)
        for at, other in zip(found, others, strict=True)
        if at != 0
    ]
    if len(ratios) < len(found):
        return Needed(found, None, None)
    if None in found:
        return Needed(found, None, geometric(ratios).mean)
    return Needed(found, geometric(ratios), None)
