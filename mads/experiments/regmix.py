"""A prior by regression on proxies (RegMix): small models on random mixtures, and what they lose.

Each proxy is a run of its own on a mixture whose categories have random log-factors. A mixing law
(``rewards/mixing.py``) is fitted to the losses of the reference tasks; it says in which direction
the corpus is to be tilted. How far is not extrapolated but tried: a few more proxies lie along the
direction, at growing distance from the corpus, and the best of them is the prior.

All proxies are arms of one comparison, so they are trained side by side and a killed call goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mads.codec import to_json
from mads.config import EvaluationConfig, Recipe
from mads.console.scores import console_cells
from mads.console.tilt import as_weights, members, tilted
from mads.errors import UsageError
from mads.experiments.arms import Arms
from mads.experiments.comparison import comparison_folder, open_run, train_arms
from mads.files import write_json
from mads.layout import ComparisonDir
from mads.rewards.matching import refuse_foreign_prior
from mads.rewards.mixing import best_tilt, fit_law, held_out_predictions, kl_of, shares_of
from mads.rewards.ranks import spearman
from mads.seeds import derive
from mads.selection.composition import Shares, composition
from mads.store.store import Store
from mads.strategies.fixed import Fixed
from mads.tasks.task import need_tasks
from mads.types import Cells, Floats, Report

METHOD = "regmix"
LEAST_PROXIES = 8
CORPUS = "corpus"  # the arm that reads the corpus's own mixture
DISTANCES = (0.1, 0.25, 0.5, 1.0, 1.5)  # nats from the corpus
LINE_SEEDS = (0, 1)  # of the proxies along the line: there are few of them, and they decide
SPREAD = 1.0  # standard deviation of a document's log-factor, over all agents
# What makes the recipe's model a proxy, unless the user says otherwise: 0.6 M parameters with a
# vocabulary of 4,096.
SMALL = (
    "model.hf=",
    "model.hidden_size=64",
    "model.num_layers=2",
    "model.num_heads=2",
    "model.ffn_size=176",
    "training.steps=120",
    "training.warmup=12",
)


@dataclass(frozen=True, slots=True)
class Tried:
    """Mixtures along the line at one distance from the corpus, and how their proxies ended."""

    kl: float  # nats
    losses: tuple[float, ...]  # mean of the reference tasks, nats per token, by seed


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prior by regression: weights for ``console.prior_file``, and how it was found.

    ``spearman`` is that of predicted and true losses, over proxies that each law had not seen.
    ``corpus`` is the loss of the proxy that read the corpus's own mixture.
    """

    weights: Mapping[str, Mapping[str, float]]
    shares: Shares
    proxies: int
    spearman: float
    kl: float
    corpus: float
    line: tuple[Tried, ...]


def fit_regmix(
    store: Store,
    recipe: Recipe,
    out: Path,
    work: Path,
    proxies: int,
    jobs: int,
    report: Report,
) -> Fitted:
    """Train proxies in ``work``, fit a prior to them and write it for ``console.prior_file``.

    The recipe is a proxy's: its model, its steps. Raises UsageError without a reference task, for
    too few proxies, and when ``out`` or ``work`` is something else; DataError when a proxy fails.
    """
    refuse_foreign_prior(out)
    need_tasks(recipe.rewards.tasks, "a prior is fitted")
    if proxies < LEAST_PROXIES:
        raise UsageError(f"--proxies: found {proxies}, expected {LEAST_PROXIES} or more.")
    cells = console_cells(store.cells, recipe.console.agents)
    corpus_C = cells.num_tokens_C / cells.num_tokens_C.sum()
    member_CP = members(cells)
    lab = _Lab(store, cells, recipe, work, jobs, report)
    known = {CORPUS: np.zeros(member_CP.shape[1])}
    known |= random_tilts(cells, proxies, derive(recipe.seed, METHOD))
    loss_NT = lab.losses("proxies", known, (recipe.seed,))[:, 0]
    weight_T = np.array([task.weight for task in recipe.rewards.tasks.values()])
    loss_N = standardised_mean(loss_NT, weight_T)
    share_NP = np.stack([shares_of(corpus_C, member_CP, tilt_P) for tilt_P in known.values()])
    weight_P = fit_law(share_NP, loss_N).weight_P
    line = {f"kl-{d:g}": best_tilt(corpus_C, member_CP, weight_P, d) for d in DISTANCES}
    seeds = tuple(recipe.seed + n for n in LINE_SEEDS)
    loss_LS = lab.losses(f"line-{proxies}", line, seeds) @ (weight_T / weight_T.sum())
    best = int(np.argmin(loss_LS.mean(axis=1)))
    tilt_P = list(line.values())[best]
    found = Fitted(
        weights=as_weights(cells, tilt_P, recipe.selection.temperature),
        shares=composition(cells, corpus_C, tilted(corpus_C, member_CP @ tilt_P)),
        proxies=len(known),
        spearman=spearman(held_out_predictions(share_NP, loss_N), loss_N),
        kl=kl_of(corpus_C, member_CP, tilt_P),
        corpus=float(loss_NT[0] @ weight_T / weight_T.sum()),
        line=tuple(
            Tried(distance, tuple(losses))
            for distance, losses in zip(DISTANCES, loss_LS.tolist(), strict=True)
        ),
    )
    write_json(out, {"method": METHOD, **to_json(found)})
    return found


def random_tilts(cells: Cells, count: int, seed: int) -> dict[str, Floats]:
    """Return log-factors of all agents' categories by proxy, independent and normal."""
    size = sum(len(cells.categories[agent]) for agent in cells.agents)
    spread = SPREAD / len(cells.agents) ** 0.5
    return {
        f"proxy-{n:04}": spread * np.random.default_rng(derive(seed, n)).standard_normal(size)
        for n in range(count)
    }


def standardised_mean(loss_NT: Floats, weight_T: Floats) -> Floats:
    """Return N proxies' mean over T tasks, each in its standard deviations over the proxies.

    So a task whose losses spread widely does not drown the others.
    """
    spread_T = np.maximum(loss_NT.std(axis=0), 1e-12)
    found: Floats = (loss_NT - loss_NT.mean(axis=0)) / spread_T @ (weight_T / weight_T.sum())
    return found


@dataclass(frozen=True, slots=True)
class _Lab:
    """Where proxies are trained: comparisons below ``work``, each proxy one arm."""

    store: Store
    cells: Cells  # as the console's agents see them
    recipe: Recipe
    work: Path
    jobs: int
    report: Report

    def losses(self, name: str, tilts: Mapping[str, Floats], seeds: Sequence[int]) -> Floats:
        """Return the reference tasks' last losses, (arms, seeds, tasks), of tilted mixtures."""
        arms = Arms(next(iter(tilts)), {arm: self._proxy(tilt) for arm, tilt in tilts.items()})
        with comparison_folder(self.work / name, self.store, arms) as folder:
            train_arms(folder, self.store, arms, seeds, self.jobs, self._report(name, arms, seeds))
            return np.array(
                [[self._ended(folder, arms, arm, seed) for seed in seeds] for arm in tilts]
            )

    def _proxy(self, tilt_P: Floats) -> Recipe:
        """Return the recipe of a proxy that reads a tilted mixture from beginning to end."""
        recipe = self.recipe
        weights = as_weights(self.cells, tilt_P, recipe.selection.temperature)
        prior = {agent: dict(table) for agent, table in weights.items()}
        return replace(
            recipe,
            seed=0,
            strategy=Fixed.name,
            console=replace(recipe.console, prior=prior, prior_file="", start="equal"),
            selection=replace(recipe.selection, policy="sample"),
            evaluation=EvaluationConfig(seed=recipe.evaluation.seed),
            training=replace(recipe.training, checkpoint_every=recipe.training.steps),
        )

    def _ended(self, folder: ComparisonDir, arms: Arms, arm: str, seed: int) -> list[float]:
        """Return a proxy's last losses; its checkpoints have served."""
        run = open_run(folder, self.store, arms, arm, seed)
        assert run.result is not None
        shutil.rmtree(run.dir.latest.parent, ignore_errors=True)
        return [run.result.losses[task] for task in self.recipe.rewards.tasks]

    def _report(self, name: str, arms: Arms, seeds: Sequence[int]) -> Report:
        """Return what adds the steps of all proxies up, for one line of progress."""
        done: dict[str, int] = {}
        total = len(arms.recipes) * len(seeds) * self.recipe.training.steps

        def report(proxy: str, steps: int, _: int) -> None:
            done[proxy] = steps
            self.report(f"{name}, steps", sum(done.values()), total)

        return report
