"""Learned influence: a model that guesses a document's reward from its text.

Fitted on the rewards of the latest rounds, it is an agent like any other: `mads annotate` with it
in the recipe adds its memory to the store, and per-document influence (MATES, Yu et al. 2024) takes
part in the console. Off unless asked for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
from numpy.typing import NDArray

from mads.agents.fasttext_agent import expectation
from mads.agents.fitting import cleaned, predict, write_model
from mads.errors import DataError, UsageError
from mads.rewards.ranks import ranks, spearman
from mads.seeds import derive, uniform
from mads.store.store import Store
from mads.types import Floats, MeasuredRound

HELD_OUT = 0.2  # share of the documents
LEAST_DOCS = 100
HYPER: dict[str, Any] = {
    "lr": 0.3,
    "epoch": 15,
    "minCount": 2,
    "wordNgrams": 2,
    "dim": 16,
    "bucket": 50_000,
    "thread": 1,  # bit for bit the same
    "verbose": 0,
}


@dataclass(frozen=True, slots=True)
class Influence:
    """What was fitted; ``spearman`` is taken on documents that were held out."""

    model: str
    rounds: tuple[int, ...]
    documents: int
    held_out: int
    spearman: float


def mean_ranks(rounds: Sequence[MeasuredRound]) -> tuple[NDArray[np.uint64], Floats]:
    """Return the probed documents, and each one's mean rank in its rounds, in (0, 1).

    Ranks, since the size of rewards shrinks while a model trains.
    """
    docs = np.concatenate([one.doc_N for one in rounds])
    values = np.concatenate([ranks(one.reward_N) for one in rounds])
    doc_N, place_N = np.unique(docs, return_inverse=True)
    rank_N: Floats = np.bincount(place_N, values) / np.bincount(place_N)
    return doc_N, rank_N


def fit_influence(
    store: Store,
    rounds: Sequence[MeasuredRound],
    source: str,
    out: Path,
    bins: int = 5,
    seed: int = 0,
) -> Influence:
    """Fit a fastText model that puts documents into ``bins`` bins of reward, lowest first.

    ``source`` says where the rewards are from. Raises UsageError for a name that is not ``*.bin``,
    and DataError when fewer than 100 documents were probed.
    """
    if out.suffix != ".bin":
        raise UsageError(f"--out: found {str(out)!r}, expected a file name that ends in .bin.")
    doc_N, rank_N = mean_ranks(rounds)
    if len(doc_N) < LEAST_DOCS:
        raise DataError(
            f"{source}: {len(doc_N)} probed documents are too few to learn from, expected "
            f"{LEAST_DOCS} or more. Raise rewards.probes_per_category, or take more rounds."
        )
    texts = [cleaned(store.text(int(doc))) for doc in doc_N]
    held = uniform(doc_N, derive(seed, "held out")) < HELD_OUT
    label_N = np.minimum((rank_N * bins).astype(int), bins - 1)
    kept = np.flatnonzero(~held)
    model = _train([texts[i] for i in kept], label_N[kept])
    held_N = [i for i in np.flatnonzero(held) if texts[i]]
    guessed = expectation(predict(model, [texts[i] for i in held_N], bins))
    agreement = spearman(guessed, rank_N[held_N])
    numbers = tuple(one.number for one in rounds)
    found = Influence(str(out), numbers, len(kept), len(held_N), agreement)
    card = {
        "kind": "ordinal",
        "categories": [f"r{i + 1}" for i in range(bins)],
        "empty_category": "r1",
        "calibration": {"raw": [0.5, bins - 0.5], "score": [0.0, float(bins)]},
        "data": {"run": source, **asdict(found)},
        "notes": "Learned influence: r1 holds the documents with the lowest rewards.",
    }
    write_model(out, model, card, HYPER | {"loss": "softmax"})
    return found


def _train(texts: Sequence[str], labels: NDArray[np.int64]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.txt"
        lines = (f"__label__{n} {text}\n" for n, text in zip(labels, texts, strict=True) if text)
        path.write_text("".join(lines), encoding="utf-8")
        return fasttext.train_supervised(str(path), **HYPER)
