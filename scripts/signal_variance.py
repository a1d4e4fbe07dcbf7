"""What part of the variance of document rewards do labels and texts hold?

``held_by_…`` is the adjusted share of a linear model over categories, which can be believed where
there are few categories and many documents. ``kept_by_…`` is taken on documents that were held out:
1 − squared error / variance around the mean of the others, ten times a tenth, by a ridge regression
whose penalty the other nine tenths choose. So many categories are not favoured: one that is no
better than the mean keeps 0 or less. With few documents of each category it is a lower bound, since
each one's mean has to be learned: of 420 categories that hold half of the variance of 700 documents
(seven means, each of 60 categories) a fifth is kept. Clusters are those of `mads fit cluster`, and
the ridge on texts reads the coordinates of the same model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mads.agents.cluster import open_model
from mads.agents.fitting import cleaned
from mads.fit.cluster import fit_cluster
from mads.seeds import shuffled
from mads.store.store import Store
from mads.types import Floats

FOLDS = 10
PENALTIES = np.geomspace(1e-3, 1e4, 15)  # relative to the mean square of a row
SEED = 17


def variance_shares(
    store: Store, doc_N: NDArray[np.uint64], cell_N: NDArray[np.int64], one: Floats, two: Floats
) -> dict[str, float]:
    """Return what part of rewards repeats over two windows, and what of it categories hold."""
    both = unit(one) + unit(two)
    order_N = shuffled(doc_N, SEED)
    found = {"repeatable": float(np.corrcoef(one, two)[0, 1])}
    columns = []
    for a, agent in enumerate(store.cells.agents):
        columns.append(one_hot(store.cells.category_CA[cell_N, a].astype(np.int64)))
        found[f"held_by_{agent}"] = explained(columns[-1], both)
        found[f"kept_by_{agent}"] = kept(columns[-1], both, order_N)
    together = np.concatenate(columns, axis=1)
    found["held_by_agents"] = explained(together, both)
    found["kept_by_agents"] = kept(together, both, order_N)
    return found


def text_shares(
    store: Store,
    doc_N: NDArray[np.uint64],
    reward_N: Floats,
    clusters: tuple[int, ...],
    docs: int,
    work: Path,
) -> dict[str, float]:
    """Return what part clusters of each number and a ridge on texts hold; models stay in --work.

    The ridge reads the coordinates of the last model.
    """
    order_N = shuffled(doc_N, SEED)
    texts = [cleaned(store.text(doc)) for doc in doc_N.tolist()]
    found = {}
    for number in clusters:
        path = work / f"clusters-{number}.safetensors"
        if not path.with_suffix(".json").is_file():
            fit_cluster(store, path, number, 128, docs, 0, lambda *_: None)
        _, model = open_model(path)
        embedded_ND = model.embedding.embed(texts)
        label_N, _ = model.nearest(embedded_ND)
        found[f"held_by_{number}_clusters"] = explained(one_hot(label_N), reward_N)
        found[f"kept_by_{number}_clusters"] = kept(one_hot(label_N), reward_N, order_N)
    norm_N = np.sqrt(np.square(embedded_ND).sum(axis=1))
    unit_ND = embedded_ND / np.maximum(norm_N, 1.0)[:, None]
    found["kept_by_text_ridge"] = kept(unit_ND, reward_N, order_N)
    return found


def unit(values: Floats) -> Floats:
    """Return values with mean 0 and standard deviation 1."""
    scaled: Floats = (values - values.mean()) / max(float(values.std()), 1e-12)
    return scaled


def one_hot(category_N: NDArray[np.int64]) -> Floats:
    """Return a column of zeros and ones for each category that occurs."""
    hot_NJ: NDArray[np.bool_] = category_N[:, None] == np.unique(category_N)
    return hot_NJ.astype(np.float64)


def explained(design_NP: Floats, value_N: Floats) -> float:
    """Return the adjusted share of the variance that a linear model holds."""
    fit = design_NP @ np.linalg.lstsq(design_NP, value_N, rcond=None)[0]
    rank = int(np.linalg.matrix_rank(design_NP))
    left = float(np.square(value_N - fit).sum()) / max(len(value_N) - rank, 1)
    return 1 - left / float(np.var(value_N, ddof=1))


def kept(design_NP: Floats, value_N: Floats, order_N: NDArray[np.int64]) -> float:
    """Return the share of the variance of held-out documents that a ridge regression foresees.

    ``order_N`` says which documents are held out together. Negative: worse than the mean.
    """
    wrong, plain = 0.0, 0.0
    for held_H in np.array_split(order_N, FOLDS):
        rest_M = np.setdiff1d(order_N, held_H)
        guess_H = ridge(design_NP[rest_M], value_N[rest_M], design_NP[held_H])
        wrong += float(np.square(value_N[held_H] - guess_H).sum())
        plain += float(np.square(value_N[held_H] - value_N[rest_M].mean()).sum())
    return 1 - wrong / plain


def ridge(design_MP: Floats, value_M: Floats, asked_HP: Floats) -> Floats:
    """Return what a ridge regression says of other rows.

    The penalty is the one of least leave-one-out error, which for a linear smoother is the
    residual over 1 − its leverage (Craven and Wahba 1978).
    """
    centre_P, mean = design_MP.mean(axis=0), value_M.mean()
    left_MP, target_M = design_MP - centre_P, value_M - mean
    kernel_MM = left_MP @ left_MP.T
    value_E, vector_ME = np.linalg.eigh(kernel_MM)
    value_E = np.maximum(value_E, 0.0)
    turned_E = vector_ME.T @ target_M
    size = max(float(np.trace(kernel_MM)) / len(value_M), 1e-12)
    best, weight_M = np.inf, np.zeros(len(value_M))
    for penalty in PENALTIES * size:
        keep_E = value_E / (value_E + penalty)
        leverage_M = np.square(vector_ME) @ keep_E + 1 / len(value_M)
        residual_M = target_M - vector_ME @ (keep_E * turned_E)
        error = float(np.square(residual_M / np.maximum(1 - leverage_M, 1e-9)).mean())
        if error < best:
            best, weight_M = error, vector_ME @ (turned_E / (value_E + penalty))
    guess_H: Floats = mean + (asked_HP - centre_P) @ left_MP.T @ weight_M
    return guess_H
