"""Update rules in a simulated world whose category values are known, noisy and drift.

A world has three agents (5, 7 and 13 categories) whose labels are correlated, 455 cells, and a true
effect of every category on rewards; each round some documents of every category are probed, as
`mads train` does, and a fifth of the corpus is selected by the console's score. The figure is the
regret: 0 = as good as the true effects of the same round, 1 = as good as random selection.

    fixed_RULE  the weights that the rule gives after the first round, never updated again
    hindsight   the best weights that are not updated: the effects' true mean over all rounds

Regret is given for the policy `top`, which only asks whether the order of the cells is right, with
its standard error over worlds, and for `sample` at the default temperature.

These worlds do not answer to what is read. In a *plant* (``mads/evaluation/plant.py``) they do:
what was read has less to give, and the best mixture is known. Regret there is 0 for it and 1 for
the corpus's own mixture, over the last five rounds; ``swing`` is the largest total variation from
one round's mixture to the next, ``at rest`` its mean over the last five rounds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mads.config import ConsoleConfig, SelectionConfig
from mads.console import RULES, initial_state, update
from mads.console.scores import cell_scores
from mads.evaluation.plant import SIZES, correlated_cells, make_plant, run_plant
from mads.rewards.categories import category_rewards, choose_probes, equal_sizes
from mads.seeds import derive
from mads.types import Cells, ConsoleState, DocumentRewards, Feedback, Floats

NUM_DOCS = 100_000
BUDGET = 0.2  # share of the corpus that a round selects
INTERACTION = 0.1  # standard deviation of a cell's own effect, in those of document rewards


@dataclass(frozen=True)
class World:
    """Cells, and the true value of every cell in every round."""

    cells: Cells
    additive_RC: Floats  # the sum of the categories' effects
    value_RC: Floats  # with what the cell has of its own
    unit_R: Floats  # size of rewards: gradients shrink while a model trains


def make_world(seed: int, rounds: int, signal: bool = True) -> World:
    """Return a world; without ``signal`` no category has any effect."""
    rng = np.random.default_rng(seed)
    cells = correlated_cells(rng, NUM_DOCS)
    keep = rng.choice([1.0, 0.95, 0.8])  # how much of an effect stays from round to round
    sizes = rng.permutation([0.0, rng.uniform(0.05, 0.2), rng.uniform(0.2, 0.5)])
    additive_RC = np.zeros((rounds, len(cells)))
    for column, size in enumerate(sizes if signal else np.zeros(3)):
        effect = rng.normal(0, size, SIZES[cells.agents[column]])
        for number in range(rounds):
            additive_RC[number] += effect[cells.category_CA[:, column]]
            effect = keep * effect + np.sqrt(1 - keep**2) * rng.normal(0, size, len(effect))
    own_C = rng.normal(0, INTERACTION if signal else 0.0, len(cells))
    unit_R: Floats = 1e-3 / (1 + 0.3 * np.arange(rounds, dtype=np.float64))
    return World(cells, additive_RC, additive_RC + own_C, unit_R)


def probe(world: World, number: int, per_category: int, seed: int) -> Feedback:
    """Return the feedback of one round: rewards with heavy-tailed noise."""
    cells = world.cells
    probes = choose_probes(cells, equal_sizes(cells, per_category), derive(seed, number))
    rng = np.random.default_rng([seed, number])
    noise_N = rng.standard_t(4, len(probes.cell_N)) / np.sqrt(2.0)
    reward_N = world.unit_R[number] * (0.5 + world.value_RC[number][probes.cell_N] + noise_N)
    return Feedback(
        category_rewards(cells, probes.cell_N, probes.weight_N, reward_N),
        DocumentRewards(
            cells.agents,
            cells.categories,
            cells.category_CA[probes.cell_N],
            reward_N,
            probes.weight_N,
            np.full(len(reward_N), 500.0),
        ),
    )


def top_share(score_C: Floats, docs_C: Floats, budget: float) -> Floats:
    """Return the share of each cell's documents that `top` selects; ties share alike."""
    share_C = np.zeros(len(score_C))
    left = budget * docs_C.sum()
    for value in np.unique(score_C.round(12))[::-1]:
        here = score_C.round(12) == value
        part = min(1.0, left / docs_C[here].sum())
        share_C[here] = part
        left -= part * docs_C[here].sum()
        if left <= 0:
            break
    return share_C


def sample_share(score_C: Floats, docs_C: Floats, budget: float, temperature: float) -> Floats:
    """Return the share of each cell's documents that `sample` selects in expectation."""
    rate_C = np.exp((score_C - score_C.max()) / temperature)
    low, high = 0.0, 1e12
    for _ in range(200):
        middle = np.sqrt(max(low, 1e-12) * high)
        if docs_C @ -np.expm1(-middle * rate_C) < budget * docs_C.sum():
            low = middle
        else:
            high = middle
    share_C: Floats = -np.expm1(-high * rate_C)
    return share_C


def gains(world: World, scores_RC: Sequence[Floats], temperature: float) -> dict[str, Floats]:
    """Return the mean value of what each round selects, under both policies."""
    docs_C = world.cells.num_docs_C.astype(float)
    found: dict[str, list[float]] = {"top": [], "sample": []}
    for value_C, score_C in zip(world.value_RC, scores_RC, strict=True):
        shares = {
            "top": top_share(score_C, docs_C, BUDGET),
            "sample": sample_share(score_C, docs_C, BUDGET, temperature),
        }
        for policy, share_C in shares.items():
            taken_C = share_C * docs_C
            found[policy].append(float(taken_C @ value_C / taken_C.sum()))
    return {policy: np.array(values) for policy, values in found.items()}


def play(world: World, rule: ConsoleConfig, per_category: int, seed: int) -> list[ConsoleState]:
    """Return the console's state after each round's update."""
    state = initial_state(world.cells.categories)
    states = []
    for number in range(len(world.value_RC)):
        state = update(state, probe(world, number, per_category, seed), rule).state
        states.append(state)
    return states


def regrets(
    seed: int, rules: dict[str, ConsoleConfig], rounds: int, per_category: int
) -> dict[str, float]:
    """Return the regret of every rule, and of fixed weights, in one world."""
    world = make_world(seed, rounds)
    temperature = SelectionConfig().temperature
    scores = {
        name: [cell_scores(world.cells, s) for s in play(world, rule, per_category, seed)]
        for name, rule in rules.items()
    }
    for name in rules:
        if name != "paper":
            scores[f"fixed_{name}"] = [scores[name][0]] * rounds
    scores["hindsight"] = [world.additive_RC.mean(axis=0)] * rounds
    docs_C = world.cells.num_docs_C.astype(float)
    random = float((world.value_RC @ docs_C).mean() / docs_C.sum())
    best = float(gains(world, list(world.additive_RC), temperature)["top"].mean())
    found = {}
    for name, score in scores.items():
        for policy, value in gains(world, score, temperature).items():
            found[f"{name} {policy}"] = (best - float(value.mean())) / (best - random)
    return found


def unrest(seed: int, rule: ConsoleConfig, rounds: int, per_category: int) -> float:
    """Return how far the scores of cells spread at the end of a world without any signal."""
    world = make_world(seed, rounds, signal=False)
    state = play(world, rule, per_category, seed)[-1]
    score_C, docs_C = cell_scores(world.cells, state), world.cells.num_docs_C
    mean = np.average(score_C, weights=docs_C)
    return float(np.sqrt(np.average((score_C - mean) ** 2, weights=docs_C)))


def bench_plant(
    rules: dict[str, ConsoleConfig], worlds: int, rounds: int, per_category: int
) -> dict[str, float]:
    """Return and print what every rule does where rewards fall with what is read."""
    figures: dict[str, float] = {}
    print(f"{worlds} plants: medians\n{'':16}{'regret':>10}{'swing':>10}{'at rest':>10}")
    for name, rule in rules.items():

        def step(
            state: ConsoleState, feedback: Feedback, rule: ConsoleConfig = rule
        ) -> ConsoleState:
            return update(state, feedback, rule).state

        found = [run_plant(make_plant(n), step, rounds, per_category) for n in range(worlds)]
        row = {
            "regret": float(np.median([course.regret_R[-5:].mean() for course in found])),
            "swing": float(np.median([course.swings.max() for course in found])),
            "rest": float(np.median([course.swings[-5:].mean() for course in found])),
        }
        figures |= {f"plant_{key}_{name}": value for key, value in row.items()}
        print(f"{name:16}" + "".join(f"{value:10.3f}" for value in row.values()))
    return figures


def main() -> None:
    """Run all worlds and print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 worlds instead of 200")
    parser.add_argument("--json", action="store_true", help="print one flat object as last line")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--per-category", type=int, default=32, help="documents probed")
    options = parser.parse_args()
    worlds = 20 if options.quick else 200
    rules = {name: rule.section(rule=name) for name, rule in sorted(RULES.items())}
    table = [regrets(seed, rules, options.rounds, options.per_category) for seed in range(worlds)]
    figures: dict[str, float] = {}
    print(f"{worlds} worlds, {options.rounds} rounds, {options.per_category} probes per category")
    print(f"{'':16}{'top':>10}{'+-':>8}{'sample':>10}{'no signal':>12}")
    names = dict.fromkeys(key.rsplit(" ", 1)[0] for key in table[0])
    for name in names:
        top = np.array([row[f"{name} top"] for row in table])
        sample = np.array([row[f"{name} sample"] for row in table])
        figures[f"regret_{name}"] = float(top.mean())
        figures[f"regret_{name}_stderr"] = float(top.std(ddof=1) / np.sqrt(worlds))
        figures[f"regret_{name}_sample"] = float(sample.mean())
        line = f"{name:16}{top.mean():10.3f}{figures[f'regret_{name}_stderr']:8.3f}"
        line += f"{sample.mean():10.3f}"
        if name in rules:
            size = options.rounds, options.per_category
            moved = [unrest(seed, rules[name], *size) for seed in range(20)]
            figures[f"unrest_{name}"] = float(np.mean(moved))
            line += f"{np.mean(moved):12.4f}"
        print(line)
    figures |= bench_plant(rules, worlds, options.rounds, options.per_category)
    figures["regret_fixed"] = min(figures["regret_fixed_bayes"], figures["regret_fixed_stable"])
    if options.json:
        print(json.dumps({key: round(value, 4) for key, value in figures.items()}))


if __name__ == "__main__":
    main()
