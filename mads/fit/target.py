"""`mads fit target`: log importance ratios of the reference tasks' n-grams against the corpus's.

Counts of hashed words and pairs of words (DSIR: Xie et al. 2023, "Data Selection for Language
Models via Importance Resampling"), of each task's items as whole texts and of a sample of the
corpus. The agent of the same name scores by them; alone, with ``strategy = "fixed"`` and the card
as ``console.prior_file``, ``policy = "sample"`` resamples by importance: DSIR as a baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mads.agents import target as agent
from mads.agents.agent import bin_names
from mads.agents.array_model import check_out, write_arrays, write_card
from mads.agents.fasttext_model import TEXT_VERSION
from mads.agents.fitting import GOLDEN_TEXTS, cleaned
from mads.agents.grams import gram_buckets, word_symbols
from mads.agents.target import Method, TargetTask
from mads.config import Recipe
from mads.errors import DataError, UsageError, did_you_mean
from mads.fit.sample import sampled_texts
from mads.seeds import derive
from mads.store.store import Store
from mads.tasks.formats import load_examples
from mads.tasks.task import need_tasks
from mads.types import Floats, Ints, Report

BUCKETS = 10_000
LEAST_SHARE = 1e-8  # added to a bucket's share, so that none is without a logarithm
PRIOR_GRAMS = 10_000.0  # as many as buckets
LEAST_SPREAD = 1e-9


@dataclass(frozen=True, slots=True)
class Targets:
    """What was fitted. ``weights`` are of the agent's bins, for a console's prior."""

    model: str
    documents: int
    per_gram: bool
    tasks: tuple[TargetTask, ...]
    weights: Mapping[str, Mapping[str, float]]


def fit_target(
    store: Store,
    recipe: Recipe,
    out: Path,
    method: str,
    per_gram: bool,
    docs: int,
    bins: int,
    seed: int,
    report: Report,
) -> Targets:
    """Fit one log-ratio for each reference task of the recipe, and write model and card.

    Which items are read is the evaluation's seed, as for runs. Raises UsageError for a bad name or
    without a task, DataError for items or documents that cannot be learned from.
    """
    check_out(out)
    known_method = check_method(method)
    configs = recipe.rewards.tasks
    need_tasks(configs, "a target is fitted")
    items = {}
    for name, config in configs.items():
        examples = load_examples(name, config, recipe.evaluation.seed)
        items[name] = [cleaned(one.context + one.continuation) for one in examples]
    texts = sampled_texts(store, docs, derive(seed, "fit", agent.NAME), report)
    weights = {name: config.weight for name, config in configs.items()}
    log_ratio_TB, tasks = fit_ratios(items, weights, texts, per_gram, known_method)
    report("fit log-ratios", 1, 2)
    model = agent.TargetModel(log_ratio_TB.astype(np.int64))
    scorer = agent.TargetScorer(model, tasks, per_gram, "")
    score_N, _ = scorer.standardised(texts)
    prior = {out.stem: bin_weights(score_N, bins, recipe.selection.temperature)}
    card = agent.TargetCard(
        backend=agent.NAME,
        model_sha256=write_arrays(out, {"log_ratio_TB": log_ratio_TB}),
        text_version=TEXT_VERSION,
        golden=agent.golden_answers(scorer, GOLDEN_TEXTS),
        method=known_method,
        per_gram=per_gram,
        tasks=tasks,
        weights=prior,
        store=store.fingerprint,
        documents=len(texts),
        seed=seed,
    )
    write_card(out, card)
    agent.open_model(out)
    report("fit log-ratios", 2, 2)
    return Targets(str(out), len(texts), per_gram, tasks, prior)


def check_method(name: str) -> Method:
    """Return a method's name; raises UsageError for one that is not known."""
    for method in METHODS:
        if method == name:
            return method
    raise UsageError(f"--method: {name!r} is not known; {did_you_mean(name, METHODS)}")


def fit_ratios(
    items: Mapping[str, Sequence[str]],
    weights: Mapping[str, float],
    texts: Sequence[str],
    per_gram: bool,
    method: Method,
) -> tuple[NDArray[np.int32], tuple[TargetTask, ...]]:
    """Return log-ratios of T tasks as the agent holds them, shape (T, BUCKETS), and the tasks.

    ``items`` and ``texts`` are cleaned. Raises DataError where there is nothing to count, or no
    document differs from another.
    """
    corpus_B = gram_counts(texts)
    if not corpus_B.any():
        raise DataError("the sample of the corpus has not one word. Raise --docs.")
    count_TB = np.stack([gram_counts(own) for own in items.values()])
    for name, count_B in zip(items, count_TB, strict=True):
        if not count_B.any():
            raise DataError(f"task {name!r} has not one word in its items. Give it others.")
    corpus_B = corpus_B / corpus_B.sum()
    ratio_TB = np.stack([METHODS[method](count_B, corpus_B) for count_B in count_TB])
    model_TB = np.rint(ratio_TB * agent.SCALE).astype(np.int32)
    model = agent.TargetModel(model_TB.astype(np.int64))
    ratio_NT, grams_N = model.ratios(texts, per_gram)
    ratio_NT = ratio_NT[grams_N > 0]
    mean_T, spread_T = ratio_NT.mean(axis=0), ratio_NT.std(axis=0)
    total = sum(weights.values())
    tasks = []
    for t, name in enumerate(items):
        if spread_T[t] < LEAST_SPREAD:
            raise DataError(
                f"task {name!r}: all {len(ratio_NT)} documents of the sample are equally like it. "
                "Raise --docs, or give other items."
            )
        tasks.append(
            TargetTask(
                name=name,
                share=weights[name] / total,
                items=len(items[name]),
                grams=int(count_TB[t].sum()),
                unseen=float(corpus_B[count_TB[t] == 0].sum()),
                mean=float(mean_T[t]),
                spread=float(spread_T[t]),
            )
        )
    return model_TB, tuple(tasks)


def gram_counts(texts: Sequence[str]) -> Ints:
    """Return how many n-grams of cleaned texts are in each bucket, shape (BUCKETS,)."""
    count_B = np.zeros(BUCKETS, np.int64)
    for text in texts:
        count_B += np.bincount(gram_buckets(word_symbols(text), BUCKETS), minlength=BUCKETS)
    return count_B


def log_ratio(count_B: Ints, corpus_B: Floats) -> Floats:
    """Return ln p_target − ln p_corpus of buckets, 1e-8 added to each share (Xie et al. 2023).

    One n-gram in a bucket that few items have not one of costs as much as nine good ones gain.
    """
    target_B = count_B / count_B.sum()
    found: Floats = np.log(target_B + LEAST_SHARE) - np.log(corpus_B + LEAST_SHARE)
    return found


def smoothed_log_ratio(count_B: Ints, corpus_B: Floats) -> Floats:
    """Return ln p_target − ln p_corpus, PRIOR_GRAMS of the corpus's own added to the target's.

    So a task of few items is like the corpus where it says nothing (Dirichlet smoothing: Zhai and
    Lafferty 2004).
    """
    target_B = (count_B + PRIOR_GRAMS * corpus_B) / (count_B.sum() + PRIOR_GRAMS)
    found: Floats = np.log(target_B + LEAST_SHARE) - np.log(corpus_B + LEAST_SHARE)
    return found


METHODS: dict[Method, Callable[[Ints, Floats], Floats]] = {
    "dsir": log_ratio,
    "smoothed": smoothed_log_ratio,
}


def bin_weights(score_N: Floats, bins: int, temperature: float) -> dict[str, float]:
    """Return weights of bins of equal size with which ``sample`` resamples by importance.

    The log importance of a bin is its mean score, and a weight is 1 + temperature · that, since
    ``sample`` draws in proportion to e^(weight / temperature). Raises DataError for fewer
    documents than bins.
    """
    if len(score_N) < bins:
        raise DataError(f"{len(score_N)} documents are too few for {bins} bins. Raise --docs.")
    parts = np.array_split(np.sort(score_N), bins)
    names = bin_names((), bins)
    return {
        name: 1 + temperature * float(part.mean()) for name, part in zip(names, parts, strict=True)
    }
