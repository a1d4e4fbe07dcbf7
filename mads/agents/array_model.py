"""Models that are arrays: a .safetensors file, and the card without which it is not trusted.

The card ``<stem>.json`` beside ``<stem>.safetensors`` is a frozen dataclass under seal. It holds
the model's sha256, which is compared before a byte is read, and golden texts with what the agent
says of them, which it is asked again whenever it is opened. Nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mads.agents.fasttext_model import TEXT_VERSION
from mads.codec import from_json, to_json
from mads.errors import DataError, UsageError
from mads.files import atomic_path, file_sha256, read_sealed_json, write_sealed_json
from mads.units import shorten

SUFFIX = ".safetensors"
GOLDEN_TOLERANCE = 1e-6  # of a score; a category must be the same

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Golden:
    """A text, and what the agent says of it; of an agent that only scores the category is ""."""

    text: str
    category: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayCard:
    """What every card of arrays says; each back-end has one of its own."""

    backend: str
    model_sha256: str
    text_version: int
    golden: tuple[Golden, ...]


Card = TypeVar("Card", bound=ArrayCard)


def check_out(out: Path) -> None:
    """Raise UsageError for a name that is not ``*.safetensors``."""
    if out.suffix != SUFFIX:
        raise UsageError(f"--out: found {str(out)!r}, expected a file name that ends in {SUFFIX}.")


def find_arrays(agent: str, backend: str, model: str) -> Path:
    """Return the model file of an agent's section.

    Raises UsageError where none is named, or it does not exist.
    """
    command = f"`mads fit {backend}` writes one"
    if not model:
        raise UsageError(f"agents.{agent}.model: give a model by its path; {command}.")
    path = Path(model)
    if path.suffix != SUFFIX:
        raise UsageError(
            f"agents.{agent}.model: found {model!r}, expected a file that ends in {SUFFIX}; "
            f"{command}."
        )
    if not path.is_file():
        raise UsageError(f"agents.{agent}.model: {model!r} does not exist; {command}.")
    return path


def write_arrays(path: Path, arrays: Arrays) -> str:
    """Write a model's arrays, and return the file's sha256 for its card."""
    from safetensors.numpy import save

    with atomic_path(path) as partial:  # with everyone's rights, unlike safetensors' own writing
        partial.write_bytes(save({name: np.ascontiguousarray(a) for name, a in arrays.items()}))
    return file_sha256(path)


def write_card(path: Path, card: ArrayCard) -> None:
    """Write the card beside the model ``path``."""
    write_sealed_json(path.with_suffix(".json"), to_json(card))


def read_card(path: Path, card: type[Card], backend: str) -> Card:
    """Read the card beside the model ``path``.

    Raises DataError for one that is missing, was changed, or belongs to another back-end or
    version.
    """
    place, remedy = path.with_suffix(".json"), f"Fit it again with `mads fit {backend}`."
    if not place.is_file():
        raise DataError(
            f"{path} has no card. Put {place} back, which was written with it: it holds the sha256 "
            "and golden texts without which a model is not trusted."
        )

    def check(value: Mapping[str, Any], place: Path) -> None:
        for key, expected in (("backend", backend), ("text_version", TEXT_VERSION)):
            if value.get(key) != expected:
                raise DataError(
                    f"{place}: {key} is {shorten(value.get(key))}, expected {expected!r}. {remedy}"
                )

    value = read_sealed_json(place, remedy, check=check)
    return from_json(card, value, place, f"a card of a {backend} model", remedy)


def read_arrays(path: Path, card: ArrayCard, shapes: Mapping[str, tuple[str, int]]) -> Arrays:
    """Read a model's arrays; ``shapes`` gives each one's kind of number and of dimensions.

    Raises DataError for a file that is not the card's, or holds something else.
    """
    found = file_sha256(path)
    if found != card.model_sha256:
        raise DataError(
            f"{path} is not the model of its card: found sha256 {found}, expected "
            f"{card.model_sha256}. It is damaged or was exchanged; copy model and card again, or "
            "fit it again."
        )
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be read as safetensors: {error}.") from error
    kinds = {name: (str(value.dtype), value.ndim) for name, value in arrays.items()}
    if kinds != dict(shapes):
        raise DataError(f"{path} holds {shorten(kinds)}, expected {shorten(dict(shapes))}.")
    return arrays


def check_golden(path: Path, expected: Sequence[Golden], found: Sequence[Golden]) -> None:
    """Raise DataError where an agent does not say of golden texts what its card says."""
    for want, have in zip(expected, found, strict=True):
        near = abs(want.score - have.score) <= GOLDEN_TOLERANCE * max(1.0, abs(want.score))
        if have.category != want.category or not near:
            raise DataError(
                f"{path} does not say what its card says: for the golden text "
                f"{shorten(want.text)} found {_told(have)}, expected {_told(want)}. Install mads "
                "again, or fit the model again."
            )


def _told(golden: Golden) -> str:
    return f"{golden.category} {golden.score:.6f}".strip()
