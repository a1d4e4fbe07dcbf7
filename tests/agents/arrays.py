"""Small models of arrays with their cards, for the tests of agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from mads.agents.array_model import write_arrays, write_card
from mads.agents.fasttext_model import TEXT_VERSION
from mads.agents.fitting import cleaned
from mads.agents.target import TargetCard, TargetModel, TargetScorer, golden_answers
from mads.fit.cluster import Clusters, write_clusters
from mads.fit.target import fit_ratios

VOCABULARIES = (
    "atom electron quantum proton neutron photon energy particle spin charge",
    "bake oven flour butter sugar cake recipe dough yeast salt",
    "goal match team player league score coach season referee stadium",
    "def return class import self lambda yield print while except",
)


def planted_texts(each: int, kinds: int = 4, words: int = 30, seed: int = 0) -> list[str]:
    """Return ``each`` documents of every vocabulary in turn, words drawn at random."""
    rng = np.random.default_rng(seed)
    return [
        " ".join(rng.choice(VOCABULARIES[kind].split(), words))
        for _ in range(each)
        for kind in range(kinds)
    ]


def write_toy_clusters(path: Path, texts: Sequence[str], clusters: int = 4) -> Clusters:
    """Fit clusters to texts."""
    found = [cleaned(text) for text in texts]
    return write_clusters(path, found, clusters, 16, 0, "a store", lambda *_: None)


@cache
def toy_clusters() -> Path:
    """Return the model of a toy, made once."""
    path = Path(mkdtemp()) / "toy.safetensors"
    write_toy_clusters(path, planted_texts(20))
    return path


def toy_scorer(
    items: Mapping[str, Sequence[str]], texts: Sequence[str], per_gram: bool = True
) -> TargetScorer:
    """Fit a target to cleaned items of tasks of equal weight, and cleaned texts of a corpus."""
    weights = dict.fromkeys(items, 1.0)
    log_ratio_TB, tasks = fit_ratios(items, weights, texts, per_gram, "dsir")
    return TargetScorer(TargetModel(log_ratio_TB.astype(np.int64)), tasks, per_gram, "")


@cache
def toy_target() -> Path:
    """Return the model of a toy with two tasks, made once."""
    path = Path(mkdtemp()) / "wanted.safetensors"
    texts = planted_texts(20)
    items = {"physics": texts[0:8:4], "cooking": texts[1:8:4]}
    log_ratio_TB, tasks = fit_ratios(items, dict.fromkeys(items, 1.0), texts, True, "dsir")
    sha256 = write_arrays(path, {"log_ratio_TB": log_ratio_TB})
    scorer = TargetScorer(TargetModel(log_ratio_TB.astype(np.int64)), tasks, True, sha256)
    card = TargetCard(
        backend="target",
        model_sha256=sha256,
        text_version=TEXT_VERSION,
        golden=golden_answers(scorer, VOCABULARIES),
        method="dsir",
        per_gram=True,
        tasks=tasks,
        weights={"wanted": {"q1": 0.5, "q2": 1.5}},
        store="a store",
        documents=80,
        seed=0,
    )
    write_card(path, card)
    return path
