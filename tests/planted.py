"""A small world with a known answer: some documents help on the reference task, some harm.

``useful`` documents speak the language of the reference task, ``neutral`` ones another language,
``noise`` is letters at random; ``shuffled`` has the words of useful ones in any order, and
``duplicates`` are one page again and again. The agents ``kind`` and ``quality`` know; ``coin`` is
random.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mads.annotate.annotate import annotate
from mads.config import Recipe
from mads.recipe import recipe_from_table

USEFUL = [
    "the small cat sat on the warm mat",
    "a red fox ran over the green hill",
    "my old dog lay by the open door",
    "the tall man sang of the deep sea",
]
NEUTRAL = ["uno dos tres cuatro cinco seis", "rojo verde azul negro blanco gris"]
PAGE = "accept all cookies, then subscribe to our weekly letter; no account yet? join us now. " * 2
KINDS = {"useful": 4.5, "neutral": 2.5, "noise": 0.5}
"""Kind of document -> its quality."""
FIVE = {**KINDS, "shuffled": 1.5, "duplicates": 3.5}


def text_of(kind: str, rng: np.random.Generator) -> str:
    """Return a document of a kind."""
    if kind == "noise":
        return "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz     "), 200))
    if kind == "duplicates":
        return PAGE
    lines = ". ".join(rng.choice(NEUTRAL if kind == "neutral" else USEFUL, 6))
    return " ".join(rng.permutation(lines.split())) if kind == "shuffled" else lines


def documents(seed: int = 0, each: int = 60, kinds: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return documents with the fields kind, quality and coin."""
    rng = np.random.default_rng(seed)
    return [
        {
            "text": text_of(kind, rng),
            "kind": kind,
            "quality": FIVE[kind],
            "coin": ("heads", "tails")[int(rng.integers(2))],
        }
        for _ in range(each)
        for kind in kinds or KINDS
    ]


def recipe(folder: Path, kinds: Sequence[str] = (), **training: Any) -> Recipe:
    """Return a recipe for the planted world; keyword arguments go to the training section.

    With ``kinds`` there is no agent ``quality``: it would share what is said of ``kind``.
    """
    reference = folder / "reference.jsonl"
    if not reference.exists():
        items = [line.rsplit(" ", 2) for line in USEFUL]
        lines = [{"context": a, "continuation": f" {b} {c}"} for a, b, c in items]
        reference.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    table: dict[str, Any] = {
        "corpus": {"executor": "inline"},
        "tokenizer": {"vocab_size": 300, "sample_bytes": 20_000},
        "agents": {
            "kind": column("kind", list(kinds or KINDS)),
            "quality": {**column("quality", ["low", "middle", "high"]), "edges": [1.0, 4.0]},
            "coin": column("coin", ["heads", "tails"]),
        },
        "selection": {"threads": 1},
        "rewards": {
            "probes_per_category": 8,
            "tasks": {"planted": {"path": str(reference), "num_examples": 0}},
        },
        "model": {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "ffn_size": 64},
        "training": {
            "steps": 20,
            "context": 32,
            "batch_tokens": 512,
            "micro_batch": 8,
            "first_update": 5,
            "update_every": 5,
            "warmup": 5,
            "learning_rate": 1e-2,
            "checkpoint_every": 10,
            **training,
        },
    }
    if kinds:
        del table["agents"]["quality"]
    return recipe_from_table(table, "the planted world")


def column(name: str, categories: list[str]) -> dict[str, Any]:
    """Return the configuration of a column agent."""
    return {"backend": "column", "field": name, "categories": categories}


def build(folder: Path, kinds: Sequence[str] = ()) -> Path:
    """Write the corpus and annotate it; return the store."""
    corpus = folder / "corpus.jsonl"
    corpus.write_text("\n".join(json.dumps(d) for d in documents(kinds=kinds)) + "\n")
    annotate([corpus], folder / "store", recipe(folder, kinds), lambda what, done, total: None)
    return folder / "store"
