"""The adapter around fastText: text cleaning, and a model file that is checked before it is used.

A model is a pair of files, ``<stem>.ftz`` (or ``.bin``) and its card ``<stem>.json``. The card
names the categories in order and fastText's label of each, and holds the sha256 of the model
(compared before fastText reads a byte, since a damaged model may load and answer, or hang) and
golden predictions (compared after). fastText answers in its own label order and adds 1e-5 to each
probability; both are undone here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mads.errors import DataError, UsageError, did_you_mean
from mads.files import file_sha256, read_json
from mads.units import shorten

MODELS = Path(__file__).parent / "models"

TEXT_VERSION = 1
"""Changes whenever ``clean_text`` or ``spread_windows`` would return something else."""

NUM_WINDOWS = 3
WINDOW_CHARS = 2_000
GOLDEN_TOLERANCE = 1e-4

_SNAP_CHARS = 40
_FASTTEXT_EPSILON = 1e-5
# Words of letters and digits, or one visible character. An underscore is a character of its own,
# so that a document cannot spell fastText's label prefix or end-of-line token.
_TOKEN = re.compile(r"[^\W_]+|[^\w\s\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|_")
_SPACE = re.compile(r"\s")


def spread_windows(text: str) -> str:
    """Return a text of at most 6,000 characters, or its beginning, middle and end of 2,000 each.

    An inner cut moves to the next white space if there is one within 40 characters. So the cost
    of a document does not grow with its length.
    """
    if len(text) <= NUM_WINDOWS * WINDOW_CHARS:
        return text
    last = len(text) - WINDOW_CHARS
    starts = [last * i // (NUM_WINDOWS - 1) for i in range(NUM_WINDOWS)]
    pieces = []
    for start in starts:
        begin = _snap(text, start) if start else 0
        end = start + WINDOW_CHARS
        pieces.append(text[begin : end if start == last else _snap(text, end)])
    return "\n".join(pieces)


def _snap(text: str, at: int) -> int:
    space = _SPACE.search(text, at, at + _SNAP_CHARS)
    return space.start() if space else at


def clean_text(text: str) -> str:
    """Return lower-case words and single punctuation marks, separated by one space each.

    White space of every kind, control characters (newline, NUL) and lone surrogates only
    separate. The result is "" when nothing visible is left.
    """
    return " ".join(_TOKEN.findall(text.lower()))


@lru_cache(maxsize=1)
def clean_texts(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return what fastText reads of each text.

    The last answer is kept: the agents of a store read the same texts one after the other, and
    cleaning takes longer than a small model does.
    """
    return tuple(clean_text(spread_windows(text)) for text in texts)


@dataclass(frozen=True, slots=True)
class Card:
    """What a card says about its model, as far as it matters for labels.

    ``labels`` are fastText's own names of ``categories``, position by position. ``calibration``
    (raw expectations, scores; both rising) belongs to ``ordinal`` models only.
    """

    kind: Literal["classifier", "ordinal"]
    categories: tuple[str, ...]
    labels: tuple[str, ...]
    empty_category: str
    sha256: str
    golden: tuple[tuple[str, tuple[float, ...]], ...]
    calibration: tuple[tuple[float, ...], tuple[float, ...]] | None

    def fingerprint(self) -> str:
        """Return a sha256 over everything in the card, and here, that can change a label."""
        facts = [self.sha256, TEXT_VERSION, self.kind, self.categories, self.labels]
        text = json.dumps([*facts, self.empty_category, self.calibration])
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class FastTextModel:
    """A fastText model that agrees with its card."""

    def __init__(self, path: Path) -> None:
        """Open ``path`` and the card beside it; raises UsageError or DataError."""
        self.path = path
        self.card = read_card(path)
        _check_sha256(path, self.card)
        import fasttext  # slow to import

        try:
            self._model = fasttext.load_model(str(path))
        except (ValueError, RuntimeError, MemoryError) as error:
            raise DataError(f"{path} is no fastText model: {error}") from error
        found = set(self._model.get_labels())
        if found != set(self.card.labels):
            raise DataError(
                f"{path} has the labels {', '.join(sorted(found)[:20])}, but its card lists "
                f"{', '.join(sorted(self.card.labels)[:20])}. Correct 'labels' in the card."
            )
        self._column = {label: i for i, label in enumerate(self.card.labels)}
        self._check_golden()

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the probability of each category, [N texts, C categories in the card's order].

        A row sums to 1, or is all zero where the text has nothing that fastText could read. A
        row depends on its own text only.
        """
        prob_NC = np.zeros((len(texts), len(self._column)))
        cleaned = clean_texts(tuple(texts))
        rows = [i for i, text in enumerate(cleaned) if text]
        if not rows:
            return prob_NC
        labels, probs = self._model.predict([cleaned[i] for i in rows], k=-1)
        for row, row_labels, row_probs in zip(rows, labels, probs, strict=True):
            prob_NC[row, [self._column[label] for label in row_labels]] = row_probs
        prob_NC = np.maximum(prob_NC - _FASTTEXT_EPSILON, 0)
        total_N = prob_NC.sum(axis=1, keepdims=True)
        if not np.isfinite(total_N).all():
            raise DataError(f"{self.path} predicts NaN. Train the model again with one thread.")
        np.divide(prob_NC, total_N, out=prob_NC, where=total_N > 0)
        return prob_NC

    def _check_golden(self) -> None:
        expected_GC = np.array([probs for _, probs in self.card.golden])
        found_GC = self.probabilities([text for text, _ in self.card.golden])
        if np.abs(found_GC - expected_GC).max() > GOLDEN_TOLERANCE:
            worst = int(np.abs(found_GC - expected_GC).max(axis=1).argmax())
            raise DataError(
                f"{self.path} does not predict what its card says: for the golden text "
                f"{shorten(self.card.golden[worst][0])} found {found_GC[worst].round(4).tolist()}, "
                f"expected {expected_GC[worst].round(4).tolist()}. Reinstall fasttext-community, "
                "or correct 'golden' in the card."
            )


def find_model(agent: str, model: str) -> Path:
    """Return the file of a shipped model (a bare name) or of the user's own (a path).

    Raises UsageError for a name that is not shipped and a path that does not exist.
    """
    path = Path(model)
    if path.suffix in (".ftz", ".bin") or path.name != model:
        if not path.is_file():
            raise UsageError(f"agents.{agent}.model: {model!r} does not exist.")
        return path
    shipped = sorted(file.stem for file in MODELS.glob("*.ftz"))
    if model not in shipped:
        raise UsageError(
            f"agents.{agent}.model: {model!r} is not shipped; {did_you_mean(model, shipped)} "
            "Another model is given by its path, such as models/mine.ftz."
        )
    return MODELS / f"{model}.ftz"


def read_card(model: Path) -> Card:
    """Read the card beside a model; raises DataError that names what is missing or wrong."""
    path = model.with_suffix(".json")
    if not path.is_file():
        raise DataError(
            f"{model} has no card. Write {path}, like those in mads/agents/models: it holds the "
            "categories, the sha256 and golden predictions, without which a model is not trusted."
        )
    table = read_json(path)
    if not isinstance(table, dict):
        raise DataError(f"{path} is no card: found {type(table).__name__}, expected an object.")
    if table.get("text_version") != TEXT_VERSION:
        raise DataError(
            f"{path}: the model was trained with text_version {table.get('text_version')!r}, but "
            f"this version of mads cleans texts by version {TEXT_VERSION}. Train it again."
        )
    try:
        card = _parse_card(table)
    except KeyError as error:
        raise DataError(f"{path} is no card: {error.args[0]!r} is missing.") from error
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} is no card: {error}") from error
    return card


def _parse_card(table: Mapping[str, Any]) -> Card:
    categories = _strings(table, "categories")
    labels = _strings(table, "labels")
    if len(labels) != len(categories):
        raise ValueError(f"{len(labels)} labels for {len(categories)} categories")
    kind = table["kind"]
    if kind not in ("classifier", "ordinal"):
        raise ValueError(f"kind is {kind!r}, expected 'classifier' or 'ordinal'")
    if table["empty_category"] not in categories:
        raise ValueError(f"empty_category is {table['empty_category']!r}, which is no category")
    golden = tuple(_golden(item) for item in table["golden"])
    if not golden or any(len(probs) != len(categories) for _, probs in golden):
        raise ValueError("golden holds no prediction with one probability for each category")
    calibration = None
    if kind == "ordinal":
        raw, score = (_numbers(table["calibration"][key]) for key in ("raw", "score"))
        if len(raw) != len(score) or len(raw) < 2:
            raise ValueError("calibration needs as many raw values as scores, at least 2")
        if not (np.diff(raw) > 0).all() or not (np.diff(score) >= 0).all():
            raise ValueError("calibration does not rise from each point to the next")
        calibration = (raw, score)
    sha256 = str(table["sha256"])
    return Card(kind, categories, labels, table["empty_category"], sha256, golden, calibration)


def _strings(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = table[key]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{key} is no list of texts")
    if len(set(value)) != len(value) or len(value) < 2:
        raise ValueError(f"{key} needs at least two different entries, none of them twice")
    return tuple(value)


def _golden(item: Any) -> tuple[str, tuple[float, ...]]:
    if not isinstance(item, dict):
        raise TypeError("golden is no list of objects with 'text' and 'probabilities'")
    text = item["text"]
    if not isinstance(text, str):
        raise TypeError(f"a golden text is {shorten(text)}, expected a text in quotes")
    return text, _numbers(item["probabilities"])


def _numbers(value: Any) -> tuple[float, ...]:
    try:
        numbers = tuple(float(item) for item in value)
    except OverflowError as error:
        raise ValueError("a number is too large") from error
    if not np.isfinite(numbers).all():
        raise ValueError("a number is NaN or infinite")
    return numbers


def _check_sha256(path: Path, card: Card) -> None:
    found = file_sha256(path)
    if found != card.sha256:
        raise DataError(
            f"{path} is not the model of its card: found sha256 {found}, expected {card.sha256}. "
            "It is damaged or was exchanged; reinstall mads or copy model and card again."
        )
