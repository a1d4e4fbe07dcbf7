"""`mads fit cluster`: K clusters of a store's documents, for the agent of the same name.

Words are weighted by tf-idf, projected by a truncated SVD and grouped by k-means, the first and
the last by the tables and the arithmetic with which the agent labels (``mads/agents/cluster.py``).
scikit-learn fits, on one thread, so that the same sample gives the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mads.agents import cluster as agent
from mads.agents.array_model import check_out, write_arrays, write_card
from mads.agents.fasttext_model import TEXT_VERSION
from mads.agents.fitting import GOLDEN_TEXTS
from mads.errors import DataError, UsageError
from mads.fit.sample import sampled_texts
from mads.seeds import derive
from mads.store.store import Store
from mads.types import Floats, Report

BUCKETS = 1 << 15
TF_SCALE, IDF_SCALE = 128, 256  # of tf and idf as whole numbers
MOST_TF = 8192  # longer than the windows of a text
UNIT = 32_767  # the largest whole number of a projection or a centroid
STARTS = 3  # of k-means, of which the best counts
ITERATIONS = 50
WORDS = 6  # shown of each cluster
DOCS_EACH = 2  # documents needed for each cluster


@dataclass(frozen=True, slots=True)
class Clusters:
    """What was fitted: each cluster's documents in the sample and its words, the largest first."""

    model: str
    documents: int
    dims: int
    variance: float  # share of the tf-idf weights' variance that the projection keeps
    cosine: float  # mean, of a document to its centroid
    sizes: Mapping[str, int]
    words: Mapping[str, tuple[str, ...]]
    largest_share: float  # of documents, of the largest cluster


def fit_cluster(
    store: Store, out: Path, clusters: int, dims: int, docs: int, seed: int, report: Report
) -> Clusters:
    """Fit K clusters to a sample of the store's documents, and write model and card.

    Raises UsageError for a bad name or number, or without scikit-learn, DataError for a sample
    with too few different texts.
    """
    check_out(out)
    check_numbers(clusters, dims, docs)
    need_sklearn()
    texts = sampled_texts(store, docs, derive(seed, "fit", agent.NAME), report)
    return write_clusters(out, texts, clusters, dims, seed, store.fingerprint, report)


def check_numbers(clusters: int, dims: int, docs: int) -> None:
    """Raise UsageError for numbers that cannot be, or not together."""
    ranges = {
        "--clusters": (clusters, agent.LEAST_CLUSTERS, agent.MOST_CLUSTERS),
        "--dims": (dims, 2, agent.MOST_DIMS),
    }
    for option, (found, low, high) in ranges.items():
        if not low <= found <= high:
            raise UsageError(f"{option}: found {found}, expected {low} to {high}.")
    if docs < DOCS_EACH * clusters:
        raise UsageError(
            f"--docs: found {docs}, expected {DOCS_EACH * clusters} or more for {clusters} "
            "clusters. Raise it, or lower --clusters."
        )


def need_sklearn() -> None:
    """Raise UsageError where scikit-learn is missing."""
    try:
        import sklearn  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise UsageError(
            'scikit-learn is not installed, which fits clusters: pip install "mads[topics]". '
            "Labelling with a model that is there does not need it."
        ) from error


def write_clusters(
    out: Path,
    texts: Sequence[str],
    clusters: int,
    dims: int,
    seed: int,
    source: str,
    report: Report,
) -> Clusters:
    """Fit K clusters to cleaned texts, and write model and card.

    ``source`` is the fingerprint of the store. Raises DataError where too few texts differ.
    """
    texts = [text for text in texts if text]
    if len(set(texts)) < DOCS_EACH * clusters:
        raise DataError(
            f"{len(set(texts))} different documents are too few for {clusters} clusters, expected "
            f"{DOCS_EACH * clusters} or more. Lower --clusters, or raise --docs."
        )
    step = partial(_report_step, report)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        step(0)
        tables, variance = fit_embedding(texts, dims, seed)
        step(1)
        embedding = agent.WordEmbedding(tables)
        embedded_ND = embedding.embed(texts)
        step(2)
        centroid_KD = fit_centroids(embedded_ND, clusters, seed)
        step(3)
    centroid_KD = largest_first(embedding, centroid_KD, embedded_ND)
    model = agent.ClusterModel(embedding, centroid_KD)
    label_N, cosine_N = model.nearest(embedded_ND)
    size_K = np.bincount(label_N[label_N >= 0], minlength=clusters)
    names = tuple(f"c{k + 1:04d}" for k in range(clusters))
    words = characteristic_words(texts, label_N, clusters)
    golden = [*GOLDEN_TEXTS, *(" ".join(found) for found in words[:4] if found)]
    card = agent.ClusterCard(
        backend=agent.NAME,
        model_sha256=write_arrays(out, {**tables, "centroid_KD": centroid_KD}),
        text_version=TEXT_VERSION,
        golden=agent.golden_answers(model, names, names[0], golden),
        categories=names,
        empty_category=names[0],
        sizes=tuple(size_K.tolist()),
        words=words,
        store=source,
        documents=len(texts),
        seed=seed,
    )
    write_card(out, card)
    agent.open_model(out)
    step(4)
    return Clusters(
        model=str(out),
        documents=len(texts),
        dims=embedded_ND.shape[1],
        variance=variance,
        cosine=float(cosine_N.mean()),
        sizes=dict(zip(names, size_K.tolist(), strict=True)),
        words=dict(zip(names, words, strict=True)),
        largest_share=float(size_K.max() / len(texts)),
    )


def _report_step(report: Report, done: int) -> None:
    report("fit clusters", done, 4)


def fit_embedding(texts: Sequence[str], dims: int, seed: int) -> tuple[dict[str, Any], float]:
    """Return the agent's tables but for the centroids, and the share of variance that they keep.

    idf is ln((1 + N) / (1 + documents with the bucket)) + 1.
    """
    from scipy.sparse import csr_matrix
    from sklearn.decomposition import TruncatedSVD

    bucket_F, tf_F, count_N = [], [], []
    for text in texts:
        found = agent.word_counts(text, BUCKETS)
        bucket_F.append(found[0])
        tf_F.append(found[1])
        count_N.append(len(found[0]))
    columns, start_N = np.concatenate(bucket_F), np.concatenate([[0], np.cumsum(count_N)])
    documents_B = np.bincount(columns, minlength=BUCKETS)
    idf_B = np.rint(IDF_SCALE * (np.log((1 + len(texts)) / (1 + documents_B)) + 1))
    tf_weight_F = np.rint(TF_SCALE * (1 + np.log(np.maximum(np.arange(MOST_TF), 1))))
    tables = {"tf_weight_F": tf_weight_F.astype(np.int32), "idf_B": idf_B.astype(np.int32)}
    weights = agent.tf_weights(np.concatenate(tf_F), tables["tf_weight_F"]) * idf_B[columns]
    row_F = np.repeat(np.arange(len(texts)), count_N)
    weights = weights / np.sqrt(np.bincount(row_F, np.square(weights)))[row_F]
    weight_NB = csr_matrix((weights, columns, start_N), shape=(len(texts), BUCKETS))
    dims = min(dims, len(texts) - 1, int((documents_B > 0).sum()))
    svd = TruncatedSVD(dims, random_state=_small_seed(seed, "svd")).fit(weight_NB)
    tables["projection_BD"] = whole(svd.components_.T)
    return tables, float(svd.explained_variance_ratio_.sum())


def fit_centroids(embedded_ND: Floats, clusters: int, seed: int) -> NDArray[np.int16]:
    """Return the directions of K centroids, by k-means over the directions of N texts.

    Raises DataError where the texts have fewer different directions than there are clusters.
    """
    from sklearn.cluster import KMeans

    known_RD = embedded_ND[embedded_ND.any(axis=1)]
    unit_RD = known_RD / np.sqrt(np.square(known_RD).sum(axis=1))[:, None]
    different = len(np.unique(unit_RD.round(6), axis=0))
    if different < clusters:
        raise DataError(
            f"the documents have {different} different directions, too few for {clusters} "
            "clusters. Lower --clusters, or raise --dims or --docs."
        )
    means = KMeans(
        clusters,
        n_init=STARTS,
        max_iter=ITERATIONS,
        random_state=_small_seed(seed, "k-means"),
    ).fit(unit_RD)
    centre_KD = means.cluster_centers_
    return whole(np.asarray(centre_KD / np.abs(centre_KD).max(axis=1)[:, None], np.float64))


def whole(value_ND: Floats) -> NDArray[np.int16]:
    """Return numbers as whole ones of 16 bits, the largest of all as 32,767."""
    scaled_ND: Floats = value_ND * (UNIT / np.abs(value_ND).max())
    return np.rint(scaled_ND).astype(np.int16)


def largest_first(
    embedding: agent.WordEmbedding, centroid_KD: NDArray[np.int16], embedded_ND: Floats
) -> NDArray[np.int16]:
    """Return the centroids by the number of their documents, so that c0001 is the largest."""
    label_N, _ = agent.ClusterModel(embedding, centroid_KD).nearest(embedded_ND)
    size_K = np.bincount(label_N[label_N >= 0], minlength=len(centroid_KD))
    return centroid_KD[np.argsort(-size_K, kind="stable")]


def _small_seed(seed: int, name: str) -> int:
    return derive(seed, name) % 2**32  # all that scikit-learn takes


def characteristic_words(
    texts: Sequence[str], label_N: NDArray[np.int64], clusters: int
) -> tuple[tuple[str, ...], ...]:
    """Return the words of each cluster with the largest c-TF-IDF, two letters or more each."""
    counts: list[Counter[str]] = [Counter() for _ in range(clusters)]
    for text, label in zip(texts, label_N.tolist(), strict=True):
        if label >= 0:
            counts[label].update(w for w in text.split() if len(w) > 1 and not w.isdigit())
    found = []
    for score in class_tf_idf(counts):
        ranked = sorted(score.items(), key=lambda item: (-item[1], item[0]))
        found.append(tuple(word for word, _ in ranked[:WORDS]))
    return tuple(found)


def class_tf_idf(counts: Sequence[Mapping[str, int]]) -> list[dict[str, float]]:
    """Return tf of a word in a class · ln(1 + mean words of a class / tf of the word in all).

    c-TF-IDF of Grootendorst 2022, equation 3; tf in a class is its share of the class's words.
    """
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    mean = sum(total.values()) / max(len(counts), 1)
    found = []
    for count in counts:
        own = max(sum(count.values()), 1)
        found.append({w: n / own * float(np.log1p(mean / total[w])) for w, n in count.items()})
    return found
