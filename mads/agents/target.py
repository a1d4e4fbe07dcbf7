"""The ``target`` back-end: how much a text is like the reference tasks.

DSIR (Xie et al. 2023) knows a text by its hashed words and pairs of words, and scores it by the log
importance ratio ln p_task(x) − ln p_corpus(x) of two bags of these n-grams. Here each reference
task has a ratio of its own, for all of a text's n-grams or for the mean one, in standard deviations
over the corpus, so a task counts by its weight and not by its number of items or words:

    z_t = (ratio_t − mean_t) / spread_t
    score = T ln Σ_t share_t e^(z_t / T)                   the soft maximum, T = 1/4

A document is wanted that is like *some* task. The mean of z would do where tasks are alike; where
they are not, what is like one task only is less like another than anything else in the corpus is,
and where such documents are common the mean puts what is like no task above them:

    z = (1.2, −1.2): mean 0.0, soft maximum 1.03          z = (0.2, 0.2): mean 0.2, soft maximum 0.2

The score is cut into bins of as many documents each. `mads fit target` writes the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from mads.agents.agent import Backend, QuantileBins, bin_names, fingerprint
from mads.agents.array_model import (
    ArrayCard,
    Golden,
    check_golden,
    find_arrays,
    read_arrays,
    read_card,
)
from mads.agents.fasttext_model import TEXT_VERSION, clean_texts
from mads.agents.grams import gram_buckets, word_symbols
from mads.codec import Within
from mads.config import AgentConfig
from mads.errors import DataError, UsageError
from mads.types import DocumentBatch, Floats, Ints, Scores, Status

NAME = "target"
BINS = 10
SHAPES = {"log_ratio_TB": ("int32", 2)}
SCALE = 1 << 20  # log-ratios are whole numbers of this part of a nat: sums of them are exact
SOFTNESS = 0.25  # T

Method = Literal["dsir", "smoothed"]


@dataclass(frozen=True, slots=True)
class TargetConfig(AgentConfig):
    """``target``: bins of the likeness to the reference tasks, of as many documents each."""

    model: str = ""  # what `mads fit target` wrote
    quantiles: Annotated[int, Within(2, 100)] = BINS  # bins of as many documents each
    categories: tuple[str, ...] = ()  # names of the bins, lowest first; default: q1, q2, …


@dataclass(frozen=True, slots=True)
class TargetTask:
    """A reference task, and its log-ratio over the sample of the corpus."""

    name: str
    share: float  # of its weight in all tasks'
    items: int
    grams: int  # n-grams of its items
    unseen: float  # share of the corpus's n-grams whose bucket none of the task's are in
    mean: float
    spread: Annotated[float, Within(1e-12, 1e12)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCard(ArrayCard):
    """What the card says. ``weights`` are read by ``console.prior_file``: see `mads fit target`."""

    method: Method
    per_gram: bool
    tasks: tuple[TargetTask, ...]
    weights: Mapping[str, Mapping[str, float]]
    store: str  # its fingerprint
    documents: int
    seed: int


class TargetModel:
    """Log-ratios of B buckets for each of T tasks."""

    def __init__(self, log_ratio_TB: Ints) -> None:
        """Hold whole numbers of 1 / SCALE nats."""
        self._log_ratio_TB = log_ratio_TB

    def log_ratios(self, cleaned: Sequence[str]) -> tuple[Floats, Ints]:
        """Return ln p_task − ln p_corpus of N texts in nats, shape (N, T), and their n-grams."""
        tasks, buckets = self._log_ratio_TB.shape
        total_NT, grams_N = np.zeros((len(cleaned), tasks)), np.zeros(len(cleaned), np.int64)
        for n, text in enumerate(cleaned):
            bucket_G = gram_buckets(word_symbols(text), buckets)
            total_NT[n] = self._log_ratio_TB[:, bucket_G].sum(axis=1) / SCALE
            grams_N[n] = len(bucket_G)
        return total_NT, grams_N

    def ratios(self, cleaned: Sequence[str], per_gram: bool) -> tuple[Floats, Ints]:
        """Return the same, for the mean n-gram if asked for; 0 of a text without any."""
        total_NT, grams_N = self.log_ratios(cleaned)
        return (total_NT / np.maximum(grams_N, 1)[:, None] if per_gram else total_NT), grams_N


def soft_maximum(z_NT: Floats, share_T: Floats) -> Floats:
    """Return T ln Σ_t share_t e^(z_t / T) of each row, T = 1/4: near the largest of them.

    Row by row, since a vector's exponentials may be rounded by the place in it.
    """
    found = np.zeros(len(z_NT))
    shares = share_T.tolist()
    for n, row in enumerate(z_NT.tolist()):
        top = max(row)
        total = math.fsum(
            share * math.exp((z - top) / SOFTNESS) for z, share in zip(row, shares, strict=True)
        )
        found[n] = top + SOFTNESS * math.log(total)
    return found


class TargetScorer:
    """The soft maximum of a text's standardised log-ratios; an empty text has no score."""

    def __init__(
        self, model: TargetModel, tasks: Sequence[TargetTask], per_gram: bool, version: str
    ) -> None:
        """``version`` is the model's sha256."""
        self.fields: tuple[str, ...] = ()
        self._model, self._per_gram = model, per_gram
        self._mean_T = np.array([task.mean for task in tasks])
        self._spread_T = np.array([task.spread for task in tasks])
        self._share_T = np.array([task.share for task in tasks])
        facts = [self._mean_T, self._spread_T, self._share_T]
        self.fingerprint = fingerprint(
            NAME, version, TEXT_VERSION, SOFTNESS, per_gram, *(fact.tolist() for fact in facts)
        )

    def score(self, batch: DocumentBatch) -> Scores:
        """Score N documents; 0 is about an average one."""
        score_N, known_N = self.standardised(clean_texts(tuple(batch.texts)))
        return Scores(score_N.astype(np.float32), known_N)

    def standardised(self, cleaned: Sequence[str]) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the scores of N cleaned texts, and which of them have one; 0 where not."""
        ratio_NT, grams_N = self._model.ratios(cleaned, self._per_gram)
        score_N = soft_maximum((ratio_NT - self._mean_T) / self._spread_T, self._share_T)
        score_N[grams_N == 0] = 0
        return score_N, grams_N > 0


def open_target(name: str, config: TargetConfig) -> QuantileBins:
    """Open the agent of a section; a text without a score counts as an average one.

    Raises UsageError for a model that does not exist or names that are not as many as the bins,
    DataError for a model that cannot be trusted.
    """
    path = find_arrays(name, NAME, config.model)
    names = bin_names(config.categories, config.quantiles)
    if len(set(names)) != config.quantiles:
        raise UsageError(
            f"agents.{name}.categories: found {len(set(names))} different names, but quantiles "
            f"makes {config.quantiles} bins; give as many names, or none."
        )
    _, scorer = open_model(path)
    return QuantileBins(name, scorer, names)


BACKEND = Backend(TargetConfig, open_target)


def open_model(path: Path) -> tuple[TargetCard, TargetScorer]:
    """Open a model that agrees with its card; raises DataError."""
    card = read_card(path, TargetCard, NAME)
    log_ratio_TB = read_arrays(path, card, SHAPES)["log_ratio_TB"]
    if len(log_ratio_TB) != len(card.tasks) or not log_ratio_TB.size:
        raise DataError(
            f"{path} has log-ratios of {len(log_ratio_TB)} tasks, but its card names "
            f"{len(card.tasks)}. Fit it again with `mads fit {NAME}`."
        )
    model = TargetModel(log_ratio_TB.astype(np.int64))
    scorer = TargetScorer(model, card.tasks, card.per_gram, card.model_sha256)
    check_golden(path, card.golden, golden_answers(scorer, [g.text for g in card.golden]))
    return card, scorer


def golden_answers(scorer: TargetScorer, texts: Sequence[str]) -> tuple[Golden, ...]:
    """Return the scores of texts."""
    batch = DocumentBatch(list(texts), [Status.OK] * len(texts), [0] * len(texts), {})
    score_N = scorer.score(batch).score_N.tolist()
    return tuple(Golden(text, "", score) for text, score in zip(texts, score_N, strict=True))
