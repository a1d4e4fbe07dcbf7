"""Writing a fastText model together with the card without which it is not trusted."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mads.agents.fasttext_model import TEXT_VERSION, FastTextModel, clean_text, spread_windows
from mads.files import atomic_path, write_json

GOLDEN_TEXTS = (
    "Photosynthesis converts light energy into chemical energy stored in glucose. In this lesson "
    "students compare the light-dependent reactions with the Calvin cycle.",
    "BUY NOW!!! Cheap watches and pills, free shipping, click here, limited offer $$$",
    "def mean(values):\n    if not values:\n        raise ValueError\n    return sum(values)",
    "The committee voted on the new tax law on Tuesday; the senator said the court would decide.",
)


def cleaned(text: str) -> str:
    """Return what an agent's model reads of a document."""
    return clean_text(spread_windows(text))


def predict(model: Any, texts: Sequence[str], num_classes: int) -> NDArray[np.float64]:
    """Return probabilities [N cleaned texts, C classes] of a model that has no card yet.

    Its labels are ``__label__0``, ``__label__1``, …
    """
    labels, probs = model.predict(list(texts), k=-1)
    prob_NC = np.zeros((len(texts), num_classes))
    for i, (row_labels, row_probs) in enumerate(zip(labels, probs, strict=True)):
        prob_NC[i, [int(label.removeprefix("__label__")) for label in row_labels]] = row_probs
    prob_NC = np.maximum(prob_NC - 1e-5, 0)  # fastText adds 1e-5 to each probability
    normal_NC: NDArray[np.float64] = prob_NC / prob_NC.sum(axis=1, keepdims=True)
    return normal_NC


def write_model(
    path: Path, model: Any, card: Mapping[str, Any], hyper_parameters: Mapping[str, Any]
) -> FastTextModel:
    """Write model and card, the golden predictions last, and open them as the agent does.

    ``card`` holds kind, categories, empty_category, for an ordinal model calibration, and whatever
    a reader should know.
    """
    with atomic_path(path) as partial:
        model.save_model(str(partial))
    categories = card["categories"]
    prob_GC = predict(model, [cleaned(text) for text in GOLDEN_TEXTS], len(categories)).round(6)
    table = {
        "name": path.stem,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **card,
        "labels": [f"__label__{i}" for i in range(len(categories))],
        "text_version": TEXT_VERSION,
        "hyper_parameters": dict(hyper_parameters),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "size_bytes": path.stat().st_size,
        "golden": [
            {"text": text, "probabilities": probs.tolist()}
            for text, probs in zip(GOLDEN_TEXTS, prob_GC, strict=True)
        ],
    }
    write_json(path.with_suffix(".json"), table)
    return FastTextModel(path)
