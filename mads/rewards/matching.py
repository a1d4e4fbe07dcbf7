"""A prior from the reference tasks alone: the mixture whose text is most like theirs.

Each cell of the store is an n-gram model: its documents' tokens and pairs of tokens, hashed into
buckets (Xie et al. 2023 know a text by the same features). What a model reads is a mixture of cells

    share_C ∝ corpus_C · exp(Σ_A u[A, category of the cell])

and u maximises the log-likelihood that this mixture of n-gram models gives to the reference tasks'
texts (interpolation weights of language models: Jelinek and Mercer 1980), each task's mean with
its weight, minus ``pull`` · KL(share ‖ corpus). The pull is the one under which a task that was
left out of the fit gains most: what is right for one task only is not believed.

    corpus 1 : 1 of books and code; under its model, a text is 3 times as likely as book as it is
    as code, so without a pull all is books; with a pull of 0.5, 0.75 : 0.25 or so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mads.agents.grams import gram_buckets
from mads.codec import to_json
from mads.config import Recipe, SelectionConfig
from mads.console.scores import console_cells
from mads.console.tilt import as_weights, divergence, members, tilted
from mads.errors import DataError, UsageError
from mads.files import read_json, write_json
from mads.rewards.categories import choose_probes, equal_sizes
from mads.seeds import derive, uniform
from mads.selection.composition import Shares, composition
from mads.store.store import Store
from mads.tasks.task import Task, make_task, need_tasks
from mads.types import Cells, Floats

METHOD = "matching"
BUCKETS = 1 << 14
MOST_NUMBERS = 1 << 26  # of all cells' models together, of which each has as many as buckets
PER_CATEGORY = 400  # documents read of every category
WINDOW = 1024  # tokens read of a document
PRIOR_GRAMS = 20_000.0  # of the whole corpus, with which each cell's own are mixed
PULLS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
ONE_TASK_PULL = 0.1  # where there is no other task to check it with
MOST_LOG = 9.0  # of a category's factor: an eight-thousandth of its share is as good as none
ITERATIONS = 500


@dataclass(frozen=True, slots=True, eq=False)
class GramModels:
    """An n-gram model of each of C cells over the same B buckets, and what the cells are.

    ``member_CP`` tells which of P categories (of all agents) a cell has.
    """

    probability_CB: Floats
    corpus_C: Floats  # shares of the corpus's tokens
    member_CP: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Tilt:
    """Log-factors of P categories, and the mixture of C cells that they make."""

    log_factor_P: Floats
    share_C: Floats


@dataclass(frozen=True, slots=True)
class Matched:
    """A prior: weights for ``console.prior_file``, and how it was found.

    ``shares`` are each category's shares of tokens, in the corpus and under the prior. ``gain`` is
    in nats per n-gram over the corpus's own mixture; ``held_out`` is what a task gains under the
    mixture that the other tasks ask for.
    """

    weights: Mapping[str, Mapping[str, float]]
    shares: Shares
    pull: float
    gain: Mapping[str, float]
    held_out: Mapping[str, float]
    documents: int


def fit_prior(
    store: Store, recipe: Recipe, out: Path, on_progress: Callable[[int, int], None]
) -> Matched:
    """Match a prior to the recipe's reference tasks and write it for ``console.prior_file``.

    Raises UsageError without a task, and when ``out`` is a file of another kind.
    """
    refuse_foreign_prior(out)
    found = match_recipe(store, recipe, on_progress)
    write_json(out, {"method": METHOD, **to_json(found)})
    return found


def match_recipe(store: Store, recipe: Recipe, on_progress: Callable[[int, int], None]) -> Matched:
    """Match a prior to the recipe's reference tasks; raises UsageError without a task.

    Which documents are read is the evaluation's seed, so that runs of all seeds begin alike.
    """
    seed = recipe.evaluation.seed
    tasks = [
        make_task(name, config, store.tokenizer, WINDOW, seed)
        for name, config in recipe.rewards.tasks.items()
    ]
    return match(store, tasks, recipe.selection, seed, on_progress, recipe.console.agents)


def refuse_foreign_prior(out: Path) -> None:
    """Raise UsageError for a file that is there and was not written by ``mads fit prior``."""
    if not out.exists():
        return
    try:
        value = read_json(out)
    except DataError:
        value = None
    if not isinstance(value, dict) or "method" not in value:
        raise UsageError(f"--out: {out} is there and is no prior. Give another name.")


def match(
    store: Store,
    tasks: Sequence[Task],
    selection: SelectionConfig,
    seed: int,
    on_progress: Callable[[int, int], None],
    agents: Sequence[str] = (),
) -> Matched:
    """Return the prior that the tasks' texts ask for, of some agents' categories or of all.

    ``on_progress`` is told documents read, and how many there are. Raises UsageError without a
    task.
    """
    need_tasks(tasks, "a prior is matched")
    cells = console_cells(store.cells, agents)
    buckets = BUCKETS
    while buckets * len(cells) > MOST_NUMBERS and buckets > 256:
        buckets //= 2
    count_CB, documents = _read_counts(store, buckets, seed, on_progress)
    models = gram_models(cells, count_CB)
    weight = np.array([task.weight for task in tasks])
    target_TB = np.stack([task_grams(task, buckets) for task in tasks])
    pull, held_out = choose_pull(models, target_TB, weight)
    found = fit_tilt(models, weight @ target_TB / weight.sum(), pull)
    names = [task.name for task in tasks]
    gain_T = [gain(models, found.share_C, target_B) for target_B in target_TB]
    return Matched(
        weights=as_weights(cells, found.log_factor_P, selection.temperature),
        shares=composition(cells, models.corpus_C, found.share_C),
        pull=pull,
        gain=dict(zip(names, gain_T, strict=True)),
        held_out=dict(zip(names, held_out, strict=False)),
        documents=documents,
    )


def task_grams(task: Task, buckets: int) -> Floats:
    """Return the distribution of a task's n-grams over buckets: contexts and answers alike."""
    total_B = np.zeros(buckets)
    for item in task.items:
        total_B += np.bincount(gram_buckets(item.tokens_T, buckets), minlength=buckets)
    share_B: Floats = total_B / total_B.sum()
    return share_B


def gram_models(cells: Cells, count_CB: Floats) -> GramModels:
    """Return a smooth model of each cell from its counts: a rare cell is like the corpus."""
    corpus_C = cells.num_tokens_C / cells.num_tokens_C.sum()
    own_C = count_CB.sum(axis=1)
    whole_B = (corpus_C / np.maximum(own_C, 1.0)) @ count_CB + 1e-9
    whole_B = whole_B / whole_B.sum()
    smooth_CB = (count_CB + PRIOR_GRAMS * whole_B) / (own_C + PRIOR_GRAMS)[:, None]
    return GramModels(smooth_CB, corpus_C, members(cells))


def gain(models: GramModels, share_C: Floats, target_B: Floats) -> float:
    """Return the nats per n-gram that a text gains under a mixture, against the corpus's."""
    here = target_B > 0
    model_CB = models.probability_CB[:, here]
    ratio_B = np.log(share_C @ model_CB) - np.log(models.corpus_C @ model_CB)
    return float(target_B[here] @ ratio_B)


def fit_tilt(models: GramModels, target_B: Floats, pull: float) -> Tilt:
    """Return the tilt of the best mixture near the corpus's: no small change of it is better.

    It is found by natural-gradient ascent with backtracking. The Fisher information of a tilted
    distribution is the covariance of its categories.
    """
    here = target_B > 0
    model_CB, wanted_B = models.probability_CB[:, here], target_B[here]
    member_CP, corpus_C = models.member_CP, models.corpus_C

    def mixture(log_factor_P: Floats) -> Floats:
        return np.asarray(np.maximum(tilted(corpus_C, member_CP @ log_factor_P), 1e-300))

    def worth(share_C: Floats) -> float:
        return float(wanted_B @ np.log(share_C @ model_CB)) - pull * divergence(share_C, corpus_C)

    log_factor_P = np.zeros(member_CP.shape[1])
    share_C = mixture(log_factor_P)
    value = worth(share_C)
    for _ in range(ITERATIONS):
        slope_C = model_CB @ (wanted_B / (share_C @ model_CB)) - pull * np.log(share_C / corpus_C)
        slope_P = member_CP.T @ (share_C * (slope_C - share_C @ slope_C))
        mean_P = member_CP.T @ share_C
        fisher_PP = (member_CP * share_C[:, None]).T @ member_CP - np.outer(mean_P, mean_P)
        step_P = np.linalg.solve(fisher_PP + 1e-4 * np.eye(len(mean_P)), slope_P)
        step_P /= max(1.0, float(np.abs(step_P).max()))  # what a step takes away may not come back
        size, better = 4.0, -np.inf
        while size > 1e-6 and better <= value + 1e-4 * size * float(slope_P @ step_P):
            size /= 2
            moved_P = np.clip(log_factor_P + size * step_P, -MOST_LOG, MOST_LOG)
            better = worth(mixture(moved_P))
        if better - value < 1e-7:
            break
        log_factor_P, value = moved_P, better
        share_C = mixture(log_factor_P)
    return Tilt(log_factor_P, share_C)


def choose_pull(
    models: GramModels, target_TB: Floats, weight_T: Floats
) -> tuple[float, list[float]]:
    """Return the pull under which tasks that are left out gain most, and each one's gain then.

    With a single task there is nothing to check with, and no gain is returned.
    """
    if len(target_TB) == 1:
        return ONE_TASK_PULL, []
    found: dict[float, list[float]] = {}
    for pull in PULLS:
        gains = []
        for out in range(len(target_TB)):
            others = np.arange(len(target_TB)) != out
            target_B = weight_T[others] @ target_TB[others] / weight_T[others].sum()
            gains.append(gain(models, fit_tilt(models, target_B, pull).share_C, target_TB[out]))
        found[pull] = gains
    best = max(found, key=lambda pull: float(np.mean(found[pull])))
    return best, found[best]


def _read_counts(
    store: Store, buckets: int, seed: int, on_progress: Callable[[int, int], None]
) -> tuple[Floats, int]:
    """Count the n-grams of sampled documents, of each cell and bucket."""
    cells = store.cells
    wanted = equal_sizes(cells, PER_CATEGORY)
    probes = choose_probes(cells, wanted, derive(seed, "prior"))
    doc_N = store.order.docs(probes.row_N)
    place_N = uniform(doc_N, derive(seed, "prior windows"))
    count_CB = np.zeros((len(cells), buckets))
    for n, (cell, doc) in enumerate(zip(probes.cell_N.tolist(), doc_N.tolist(), strict=True)):
        reader, row = store.tokens(doc)
        first = int(place_N[n] * (max(reader.length(row) - WINDOW, 0) + 1))
        tokens_T = reader.row(row, first, first + WINDOW)
        if len(tokens_T):
            found = gram_buckets(tokens_T, buckets)
            count_CB[cell] += np.bincount(found, minlength=buckets)
        on_progress(n + 1, len(doc_N))
    return count_CB, len(doc_N)
