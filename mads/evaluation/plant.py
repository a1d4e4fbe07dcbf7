"""A simulated corpus and model in which what is read soon has less to give.

    marginal reward of a cell = value − depth · log(what was read of it / its share of the corpus)

It is the slope of the utility U(p) = Σ p·value − depth · KL(p ‖ corpus), so the best mixture is
known: p* ∝ corpus · exp(value / depth). What is read follows the selection with a lag of rounds.
Measured rewards are first-order: right about the next step, and reversed once a category was read.
A rule that follows them in proportion swings between categories; one that integrates comes to rest
near p*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mads.config import SelectionConfig
from mads.console import initial_state
from mads.console.scores import cell_scores
from mads.rewards.categories import category_rewards, choose_probes, equal_sizes
from mads.seeds import derive
from mads.selection.policies import exponential_clocks
from mads.types import Cells, ConsoleState, DocumentRewards, Feedback, Floats

SIZES = {"quality": 5, "domain": 7, "topic": 13}
BUDGET = 0.01  # share of the corpus that a round reads
TOKENS = 500  # of every document


@dataclass(frozen=True)
class Plant:
    """Cells, each one's value in standard deviations of document rewards, and how it wears off."""

    cells: Cells
    value_C: Floats
    depth: float
    lag: float  # share of the way from what was read to what is selected, each round
    seed: int

    @property
    def corpus(self) -> Floats:
        """Each cell's share of the corpus, shape (C,)."""
        share_C: Floats = self.cells.num_tokens_C / self.cells.num_tokens_C.sum()
        return share_C

    @property
    def best(self) -> Floats:
        """The best mixture, shape (C,)."""
        tilted_C = self.corpus * np.exp((self.value_C - self.value_C.max()) / self.depth)
        share_C: Floats = tilted_C / tilted_C.sum()
        return share_C

    def utility(self, share_C: Floats) -> float:
        """Return what a mixture is worth."""
        ratio_C = np.maximum(share_C, 1e-300) / self.corpus
        return float(share_C @ (self.value_C - self.depth * np.log(ratio_C)))

    def regret(self, share_C: Floats) -> float:
        """Return 0 for the best mixture and 1 for the corpus's own."""
        most, least = self.utility(self.best), self.utility(self.corpus)
        return (most - self.utility(share_C)) / (most - least)

    def probe(self, number: int, read_C: Floats, per_category: int) -> Feedback:
        """Return one round's feedback, with heavy-tailed noise, after ``read_C`` was read."""
        cells = self.cells
        probes = choose_probes(cells, equal_sizes(cells, per_category), derive(self.seed, number))
        rng = np.random.default_rng([self.seed, number])
        noise_N = rng.standard_t(4, len(probes.cell_N)) / np.sqrt(2.0)
        worn_C = self.depth * np.log(np.maximum(read_C, 1e-9) / self.corpus)
        reward_N = 1e-3 * ((self.value_C - worn_C)[probes.cell_N] + noise_N)
        found = DocumentRewards(
            cells.agents,
            cells.categories,
            cells.category_CA[probes.cell_N],
            reward_N,
            probes.weight_N,
            np.full(len(reward_N), float(TOKENS)),
        )
        return Feedback(category_rewards(cells, probes.cell_N, probes.weight_N, reward_N), found)


def correlated_cells(rng: np.random.Generator, num_docs: int) -> Cells:
    """Return an index of three agents in which quality and topic depend on the domain."""
    domain = rng.dirichlet(np.full(SIZES["domain"], 2.0))
    quality = rng.dirichlet(np.full(SIZES["quality"], 0.7), size=SIZES["domain"])
    topic = rng.dirichlet(np.full(SIZES["topic"], 0.5), size=SIZES["domain"])
    chance = domain[None, :, None] * quality.T[:, :, None] * topic[None, :, :]
    docs = rng.multinomial(num_docs, chance.ravel() / chance.sum())
    category = np.stack(np.unravel_index(np.arange(docs.size), chance.shape), axis=1)
    kept = docs > 0
    docs = docs[kept].astype(np.int64)
    return Cells(
        agents=tuple(SIZES),
        categories={a: tuple(f"{a}-{i}" for i in range(n)) for a, n in SIZES.items()},
        category_CA=category[kept].astype(np.uint16),
        num_docs_C=docs,
        num_tokens_C=docs * TOKENS,
        first_row_C=np.cumsum(docs) - docs,
    )


def make_plant(seed: int, num_docs: int = 100_000) -> Plant:
    """Return a seeded plant; of its three agents one says nothing of values, and one a lot."""
    rng = np.random.default_rng(seed)
    cells = correlated_cells(rng, num_docs)
    value_C = np.zeros(len(cells))
    sizes = rng.permutation([0.0, rng.uniform(0.05, 0.2), rng.uniform(0.2, 0.5)])
    for column, size in enumerate(sizes):
        effect = rng.normal(0, size, SIZES[cells.agents[column]])
        value_C += effect[cells.category_CA[:, column]]
    return Plant(cells, value_C, rng.uniform(0.15, 0.6), rng.choice([1.0, 0.5]), seed)


@dataclass(frozen=True)
class Course:
    """The mixtures of R rounds, shape (R, C), and what they are worth."""

    share_RC: Floats
    regret_R: Floats

    @property
    def swings(self) -> Floats:
        """The total variation from each mixture to the next, shape (R − 1,)."""
        moved: Floats = np.abs(np.diff(self.share_RC, axis=0)).sum(axis=1) / 2
        return moved


def run_plant(
    plant: Plant,
    update: Callable[[ConsoleState, Feedback], ConsoleState],
    rounds: int,
    per_category: int,
) -> Course:
    """Let a rule decide what is read, from equal weights on."""
    cells = plant.cells
    size_C = cells.num_tokens_C.astype(np.float64)
    temperature = SelectionConfig().temperature
    state = initial_state(cells.categories)
    read_C = plant.corpus
    shares = []
    for number in range(rounds):
        state = update(state, plant.probe(number, read_C, per_category))
        score_C = cell_scores(cells, state)
        taken_C = size_C * exponential_clocks(score_C, size_C, BUDGET * size_C.sum(), temperature)
        shares.append(taken_C / taken_C.sum())
        read_C = read_C + plant.lag * (shares[-1] - read_C)
    return Course(np.stack(shares), np.array([plant.regret(share_C) for share_C in shares]))
