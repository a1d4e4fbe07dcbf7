"""Small models of arrays with their cards, for the tests of agents."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from mads.agents.fitting import cleaned
from mads.fit.cluster import Clusters, write_clusters

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
