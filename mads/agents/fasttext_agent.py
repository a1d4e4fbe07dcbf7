"""The ``fasttext`` back-end: a small classifier that reads the text.

A ``classifier`` (domain, topic) takes the most probable category and its probability as score.
An ``ordinal`` model (quality) has bins as classes: their expectation, calibrated so that scores
spread as the training labels do, is the score, and the score's bin is the category: a unit bin,
or with ``quantiles`` one of as many documents each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from mads.agents.agent import Backend, FixedBins, QuantileBins, bin_names, named_bins
from mads.agents.fasttext_model import FastTextModel, find_model
from mads.codec import Within
from mads.config import AgentConfig
from mads.errors import UsageError
from mads.types import Agent, DocumentBatch, Labels, Scores

_PREDICT_DOCS = 1_024  # texts handed to fastText at once, which bounds RAM


@dataclass(frozen=True, slots=True)
class FastTextConfig(AgentConfig):
    """``fasttext``: a classifier that reads the text."""

    model: str = ""  # a shipped model's name or a path; default: the agent's name
    # Bins of as many documents each by score, over the whole corpus, of a model like quality;
    # their names are q1, q2, … or ``categories``, lowest first
    quantiles: Annotated[int, Within(0, 100)] = 0
    categories: tuple[str, ...] = ()  # names of the bins, lowest first; none: q1, q2, …


def open_fasttext(name: str, config: FastTextConfig) -> Agent | QuantileBins:
    """Open the agent of a section.

    Raises UsageError for a model that does not exist or does not fit the section, DataError for
    one that cannot be trusted.
    """
    _check(name, config)
    model = FastTextModel(find_model(name, config.model or name))
    card = model.card
    if config.quantiles and card.kind != "ordinal":
        raise UsageError(
            f"agents.{name}.quantiles: the model {model.path.stem!r} is a {card.kind}, "
            "whose score is no scale. Remove quantiles, or give an ordinal model."
        )
    if card.kind != "ordinal":
        return FastTextAgent(name, model)
    scorer = FastTextScorer(model)
    if config.quantiles:
        return QuantileBins(name, scorer, bin_names(config.categories, config.quantiles))
    edges = [float(edge) for edge in range(1, len(card.categories))]  # unit bins [k, k+1)
    empty = card.categories.index(card.empty_category)
    return FixedBins(name, scorer, card.categories, edges, empty)


BACKEND = Backend(FastTextConfig, open_fasttext)


def _check(name: str, config: FastTextConfig) -> None:
    bins, names = config.quantiles, config.categories
    if bins == 1:
        raise UsageError(f"agents.{name}.quantiles: found 1, expected 2 to 100.")
    if names and not bins:
        raise UsageError(
            f"agents.{name}.categories: the categories of a fastText model stand in its card. "
            'Remove the key, or set backend = "column".'
        )
    if names:
        named_bins(name, names, bins)


class FastTextAgent:
    """Takes the most probable category, with its probability as score."""

    def __init__(self, name: str, model: FastTextModel) -> None:
        self.name = name
        self.categories = model.card.categories
        self.fields: tuple[str, ...] = ()
        self.fingerprint = model.card.fingerprint()
        self._model = model
        self._empty = model.card.categories.index(model.card.empty_category)

    def label(self, batch: DocumentBatch) -> Labels:
        """Label N documents.

        A text without one visible character gets the card's ``empty_category`` and the score 0.
        """
        prob_NC = _probabilities(self._model, batch.texts)
        category_N = prob_NC.argmax(axis=1).astype(np.uint16)
        category_N[prob_NC.sum(axis=1) == 0] = self._empty
        return Labels(category_N, prob_NC.max(axis=1).astype(np.float32))


class FastTextScorer:
    """An ordinal model's calibrated expectation; an empty text has no score."""

    def __init__(self, model: FastTextModel) -> None:
        self.fields: tuple[str, ...] = ()
        self.fingerprint = model.card.fingerprint()
        self._model = model

    def score(self, batch: DocumentBatch) -> Scores:
        """Score N documents."""
        prob_NC = _probabilities(self._model, batch.texts)
        calibration = self._model.card.calibration
        assert calibration is not None
        score_N = np.interp(expectation(prob_NC), *calibration).astype(np.float32)
        known_N = prob_NC.sum(axis=1) > 0
        score_N[~known_N] = 0
        return Scores(score_N, known_N)


def _probabilities(model: FastTextModel, texts: list[str]) -> NDArray[np.float64]:
    starts = range(0, len(texts), _PREDICT_DOCS)
    parts = [model.probabilities(texts[i : i + _PREDICT_DOCS]) for i in starts]
    return np.concatenate(parts) if parts else np.empty((0, len(model.card.categories)))


def expectation(prob_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the C unit bins' centres 0.5, 1.5, … under each of N distributions."""
    centre_C = np.arange(prob_NC.shape[1]) + 0.5
    # Not a matrix product: its rounding may depend on N, and labels must not.
    mean_N: NDArray[np.float64] = (prob_NC * centre_C).sum(axis=1)
    return mean_N
