"""The ``fasttext`` back-end: a small classifier that reads the text.

A ``classifier`` (domain, topic) takes the most probable category and its probability as score.
An ``ordinal`` model (quality) has bins as classes: their expectation, calibrated so that scores
spread as the training labels do, is the score, and the score's bin is the category: a unit bin,
or with ``quantiles`` one of as many documents each.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

from mads.agents.fasttext_model import FastTextModel, find_model
from mads.config import AgentConfig
from mads.errors import UsageError
from mads.types import TO_BIN, DocumentBatch, Labels

_COLUMN_KEYS = ("field", "rename", "other", "edges")
_PREDICT_DOCS = 1_024  # texts handed to fastText at once, which bounds memory


class FastTextAgent:
    """Labels documents by a shipped model or the user's own (``agents.<name>.model``).

    Raises UsageError for a model that does not exist and DataError for one that cannot be
    trusted.
    """

    def __init__(self, name: str, config: AgentConfig) -> None:
        keys = _COLUMN_KEYS if config.quantiles else (*_COLUMN_KEYS, "categories")
        unused = [key for key in keys if getattr(config, key)]
        if unused:
            raise UsageError(
                f"agents.{name}: the back-end 'fasttext' has no {', '.join(unused)}. "
                'Remove it, or set backend = "column".'
            )
        self._model = FastTextModel(find_model(name, config.model or name))
        card = self._model.card
        if config.quantiles and card.kind != "ordinal":
            raise UsageError(
                f"agents.{name}.quantiles: the model {self._model.path.stem!r} is a {card.kind}, "
                "whose score is no scale. Remove quantiles, or give an ordinal model."
            )
        self.name = name
        self.quantiles = config.quantiles
        self.categories = config.bin_names if config.quantiles else card.categories
        self.fields: tuple[str, ...] = ()
        self.fingerprint = _fingerprint(card.fingerprint(), config)
        self._empty = card.categories.index(card.empty_category)
        self._calibration = card.calibration

    def label(self, batch: DocumentBatch) -> Labels:
        """Label N documents.

        A text without one visible character gets the card's ``empty_category`` and the score 0
        (with ``quantiles``, the bin of the score 0).
        """
        starts = range(0, len(batch), _PREDICT_DOCS)
        parts = [self._label_texts(batch.texts[i : i + _PREDICT_DOCS]) for i in starts]
        if not parts:
            return Labels(np.empty(0, np.uint16), np.empty(0, np.float32))
        return Labels(
            np.concatenate([part.category_N for part in parts]),
            np.concatenate([part.score_N for part in parts]),
        )

    def _label_texts(self, texts: list[str]) -> Labels:
        prob_NC = self._model.probabilities(texts)
        empty_N = prob_NC.sum(axis=1) == 0
        if self._calibration is None:
            category_N = prob_NC.argmax(axis=1).astype(np.uint16)
            score_N = prob_NC.max(axis=1).astype(np.float32)
        else:
            raw_N = expectation(prob_NC)
            score_N = np.interp(raw_N, *self._calibration).astype(np.float32)
            category_N = bin_scores(score_N, prob_NC.shape[1])
        category_N[empty_N] = self._empty
        score_N[empty_N] = 0
        if self.quantiles:
            category_N[:] = TO_BIN
        return Labels(category_N, score_N)


def _fingerprint(card: str, config: AgentConfig) -> str:
    """Return the card's fingerprint, or one that also follows the names of the quantile bins."""
    if not config.quantiles:
        return card
    text = json.dumps([card, config.bin_names])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def expectation(prob_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the C unit bins' centres 0.5, 1.5, … under each of N distributions."""
    centre_C = np.arange(prob_NC.shape[1]) + 0.5
    # Not a matrix product: its rounding may depend on N, and labels must not.
    mean_N: NDArray[np.float64] = (prob_NC * centre_C).sum(axis=1)
    return mean_N


def bin_scores(score_N: NDArray[np.float32], num_bins: int) -> NDArray[np.uint16]:
    """Return the unit bin [k, k+1) of each score; the last bin holds its upper end too.

    A score below 0 or above ``num_bins`` is in the first or the last bin.
    """
    return np.clip(np.floor(score_N), 0, num_bins - 1).astype(np.uint16)
