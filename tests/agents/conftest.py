"""A toy fastText model with its card, trained in a fraction of a second."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fasttext
import pytest

from mads.agents.fasttext_model import TEXT_VERSION, clean_text

CATS = "the cat purrs and drinks milk"
DOGS = "a dog barks and fetches sticks"


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    lines = folder / "lines.txt"
    # Dogs come first and more often, so fastText's own order is not the card's.
    lines.write_text(f"__label__d {DOGS}\n" * 60 + f"__label__c {CATS}\n" * 40)
    model = fasttext.train_supervised(str(lines), dim=4, epoch=5, lr=0.5, thread=1, verbose=0)
    model.save_model(str(folder / "toy.bin"))
    return folder / "toy.bin"


@pytest.fixture
def toy(toy_model: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes model and card, with changed or (None) missing keys."""

    def write(**changes: Any) -> Path:
        model = tmp_path / "toy.bin"
        model.write_bytes(toy_model.read_bytes())
        raw = fasttext.load_model(str(toy_model))
        labels, probs = raw.predict([clean_text(CATS)], k=-1)
        found = dict(zip(labels[0], probs[0], strict=True))
        card = {
            "kind": "classifier",
            "categories": ["cat", "dog"],
            "labels": ["__label__c", "__label__d"],
            "empty_category": "dog",
            "text_version": TEXT_VERSION,
            "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
            "golden": [
                {
                    "text": CATS,
                    "probabilities": [float(found["__label__c"]), float(found["__label__d"])],
                }
            ],
        } | changes
        card = {key: value for key, value in card.items() if value is not None}
        model.with_suffix(".json").write_text(json.dumps(card))
        return model

    return write
