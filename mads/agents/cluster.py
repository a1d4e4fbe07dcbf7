"""The ``cluster`` back-end: a document's category is the nearest of K centroids.

A text becomes tf-idf weights of hashed words, a projection of these (truncated SVD: latent semantic
analysis, Deerwester et al. 1990), and the centroid of the smallest angle to it:

    texts ─ clean, windows ─▶ words ─▶ B buckets: (1 + ln tf)·idf ─ projection_BD ─▶ D numbers
                                          nearest of K directions (centroid_KD) ◀────────┘

All tables are whole numbers (16 bits for the projection and the centroids), and so are all sums,
which stay below 2⁵³ and are therefore exact in float64 in whatever order they are added. So a
label is the same bits for any batch, worker, thread, BLAS and machine; equal angles go to the
centroid of the lower number. ``mads fit cluster`` writes the model; labelling needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mads.agents.agent import Backend, fingerprint
from mads.agents.array_model import (
    ArrayCard,
    Arrays,
    Golden,
    check_golden,
    find_arrays,
    read_arrays,
    read_card,
)
from mads.agents.fasttext_model import TEXT_VERSION, clean_texts
from mads.agents.grams import symbol_buckets, word_symbols
from mads.config import AgentConfig
from mads.errors import DataError, UsageError
from mads.types import DocumentBatch, Floats, Labels, Status

NAME = "cluster"
LEAST_CLUSTERS, MOST_CLUSTERS = 2, 1024
MOST_DIMS = 1024
SHAPES = {
    "tf_weight_F": ("int32", 1),
    "idf_B": ("int32", 1),
    "projection_BD": ("int16", 2),
    "centroid_KD": ("int16", 2),
}
_EMBEDDED_BITS = 20  # of a text's coordinates, before they are compared with centroids


@dataclass(frozen=True, slots=True)
class ClusterConfig(AgentConfig):
    """``cluster``: the nearest of K centroids."""

    model: str = ""  # what `mads fit cluster` wrote
    categories: tuple[str, ...] = ()  # names of the clusters; default: the model's, c0001, …


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterCard(ArrayCard):
    """What the card says: of each cluster its documents in the fitted sample and its words."""

    categories: tuple[str, ...]
    empty_category: str
    sizes: tuple[int, ...]
    words: tuple[tuple[str, ...], ...]
    store: str  # its fingerprint
    documents: int
    seed: int


class WordEmbedding:
    """Turns texts into D coordinates by tf-idf of hashed words and a projection."""

    def __init__(self, arrays: Arrays) -> None:
        """Hold the arrays, whose lengths must fit each other (ValueError)."""
        self._tf_weight_F = arrays["tf_weight_F"]
        self._idf_B = arrays["idf_B"]
        self._projection_BD = arrays["projection_BD"]
        if len(self._idf_B) != len(self._projection_BD) or not len(self._tf_weight_F):
            raise ValueError("idf_B and projection_BD have unequal lengths, or tf_weight_F none")

    @property
    def dims(self) -> int:
        """Return D."""
        return int(self._projection_BD.shape[1])

    def embed(self, cleaned: Sequence[str]) -> Floats:
        """Return the coordinates of N cleaned texts, shape (N, D): whole numbers up to 2²⁰.

        A text of no known word is zero.
        """
        found_ND = np.zeros((len(cleaned), self.dims))
        for n, text in enumerate(cleaned):
            bucket_F, tf_F = word_counts(text, len(self._idf_B))
            weight_F = tf_weights(tf_F, self._tf_weight_F) * self._idf_B[bucket_F]
            row_FD = self._projection_BD[bucket_F].astype(np.float64)
            found_ND[n] = weight_F.astype(np.float64) @ row_FD
        return shortened(found_ND, _EMBEDDED_BITS)


class ClusterModel:
    """K centroids in the space of an embedding."""

    def __init__(self, embedding: WordEmbedding, centroid_KD: NDArray[np.int16]) -> None:
        """Hold directions in the embedding's space, none of them zero (ValueError)."""
        self.embedding = embedding
        self._centroid_KD = centroid_KD.astype(np.float64)
        if centroid_KD.shape[1] != embedding.dims:
            raise ValueError("centroid_KD and projection_BD have unequal dimensions")
        if not centroid_KD.any(axis=1).all():
            raise ValueError("a centroid of centroid_KD is zero")

    def __len__(self) -> int:
        """Return K."""
        return len(self._centroid_KD)

    def nearest(self, embedded_ND: Floats) -> tuple[NDArray[np.int64], Floats]:
        """Return each text's centroid and the cosine to it; −1 and 0 where a text is zero."""
        centroid_N = np.full(len(embedded_ND), -1)
        cosine_N = np.zeros(len(embedded_ND))
        rows = np.flatnonzero(embedded_ND.any(axis=1))
        if len(rows):
            cosine_RK = cosines(embedded_ND[rows], self._centroid_KD)
            centroid_N[rows] = cosine_RK.argmax(axis=1)
            cosine_N[rows] = cosine_RK.max(axis=1)
        return centroid_N, cosine_N


def word_counts(cleaned: str, buckets: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the buckets that a cleaned text's words fall into, rising, and how many into each."""
    return np.unique(symbol_buckets(word_symbols(cleaned), buckets), return_counts=True)


def tf_weights(tf_F: NDArray[np.int64], table_F: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the weight of each number of occurrences from a table, whose last one has no end."""
    return table_F[np.minimum(tf_F, len(table_F) - 1)].astype(np.int64)


def shortened(value_ND: Floats, bits: int) -> Floats:
    """Return rows of whole numbers divided by a power of two, so that they have so many bits.

    A power of two and a rounding of each row's own: exact, whatever the other rows are.
    """
    _, exponent_N = np.frexp(np.abs(value_ND).max(axis=1, initial=0.0))
    scaled: Floats = np.rint(np.ldexp(value_ND, np.minimum(bits - exponent_N, 0)[:, None]))
    return scaled


def cosines(left_ND: Floats, right_KD: Floats) -> Floats:
    """Return the cosines of rows of whole numbers that are not zero, shape (N, K).

    The products are exact below 2⁵³; a root and a quotient are rounded right by any machine.
    """
    norm_N = np.sqrt(np.square(left_ND).sum(axis=1))
    norm_K = np.sqrt(np.square(right_KD).sum(axis=1))
    found: Floats = left_ND @ right_KD.T / norm_K / norm_N[:, None]
    return found


class ClusterAgent:
    """Takes the nearest centroid, with the cosine to it as score."""

    def __init__(
        self, name: str, model: ClusterModel, categories: Sequence[str], empty: int, version: str
    ) -> None:
        """``empty`` is the category of a text without words, ``version`` the model's sha256."""
        self.name = name
        self.categories = tuple(categories)
        self.fields: tuple[str, ...] = ()
        self.fingerprint = fingerprint(NAME, version, TEXT_VERSION, self.categories, empty)
        self._model, self._empty = model, empty

    def label(self, batch: DocumentBatch) -> Labels:
        """Label N documents.

        A text of no word that the model knows gets the card's ``empty_category`` and the score 0.
        """
        embedded_ND = self._model.embedding.embed(clean_texts(tuple(batch.texts)))
        centroid_N, cosine_N = self._model.nearest(embedded_ND)
        category_N = np.where(centroid_N < 0, self._empty, centroid_N).astype(np.uint16)
        return Labels(category_N, cosine_N.astype(np.float32))


def open_cluster(name: str, config: ClusterConfig) -> ClusterAgent:
    """Open the agent of a section.

    Raises UsageError for a model that does not exist or names that do not fit it, DataError for
    one that cannot be trusted.
    """
    path = find_arrays(name, NAME, config.model)
    card, model = open_model(path)
    names = config.categories or card.categories
    if len(names) != len(card.categories) or len(set(names)) != len(names):
        raise UsageError(
            f"agents.{name}.categories: found {len(set(names))} different names, but {path} has "
            f"{len(card.categories)} clusters; give as many, or none."
        )
    empty = card.categories.index(card.empty_category)
    return ClusterAgent(name, model, names, empty, card.model_sha256)


BACKEND = Backend(ClusterConfig, open_cluster)


def open_model(path: Path) -> tuple[ClusterCard, ClusterModel]:
    """Open a model that agrees with its card; raises DataError."""
    card = read_card(path, ClusterCard, NAME)
    arrays = read_arrays(path, card, SHAPES)
    try:
        model = ClusterModel(WordEmbedding(arrays), arrays["centroid_KD"])
    except ValueError as error:
        raise DataError(f"{path} is no {NAME} model: {error}.") from error
    names = card.categories
    if len(set(names)) != len(model) or card.empty_category not in names:
        raise DataError(
            f"{path} has {len(model)} clusters, but its card names {len(set(names))}, or an "
            f"empty_category that is none of them. Fit it again with `mads fit {NAME}`."
        )
    texts = [golden.text for golden in card.golden]
    check_golden(path, card.golden, golden_answers(model, names, card.empty_category, texts))
    return card, model


def golden_answers(
    model: ClusterModel, categories: Sequence[str], empty_category: str, texts: Sequence[str]
) -> tuple[Golden, ...]:
    """Return what the agent of a model says of texts."""
    agent = ClusterAgent("golden", model, categories, list(categories).index(empty_category), "")
    batch = DocumentBatch(list(texts), [Status.OK] * len(texts), [0] * len(texts), {})
    labels = agent.label(batch)
    return tuple(
        Golden(text, categories[category], score)
        for text, category, score in zip(
            texts, labels.category_N.tolist(), labels.score_N.tolist(), strict=True
        )
    )
