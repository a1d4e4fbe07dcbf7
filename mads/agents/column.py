"""The ``column`` back-end: labels that the corpus already carries.

A value is a category's name, perhaps after ``rename``. With ``edges`` or ``quantiles`` it is a
number and the categories are its bins.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mads.config import AgentConfig
from mads.errors import DataError, UsageError, did_you_mean
from mads.types import TO_BIN, DocumentBatch, Labels

_SHOWN_CHARS = 80
_LARGEST_SCORE = float(np.finfo(np.float32).max)


class ColumnAgent:
    """Reads one field of each document (see ``AgentConfig`` for the keys).

    Raises UsageError that lists every problem of the section.
    """

    def __init__(self, name: str, config: AgentConfig) -> None:
        problems = _problems(config)
        if problems:
            lines = "\n".join(f"  agents.{name}.{problem}" for problem in problems)
            raise UsageError(f"agent {name!r} cannot be opened:\n{lines}")
        self.name = name
        self.categories = config.bin_names
        self.fields: tuple[str, ...] = (config.field,)
        self._field = config.field
        self.quantiles = config.quantiles
        self._edges = config.edges
        index = {category: i for i, category in enumerate(self.categories)}
        self._index = index | {value: index[to] for value, to in config.rename.items()}
        self._other = index.get(config.other)
        facts = ["column", config.field, self.categories, sorted(config.rename.items())]
        text = json.dumps([*facts, config.other, config.edges, config.quantiles])
        self.fingerprint = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def label(self, batch: DocumentBatch) -> Labels:
        """Label N documents; the score is 1, or with bins the number itself.

        A document that gets ``other`` in place of a number has the score 0. Raises DataError for
        a value that has no place, and for NaN and infinity whatever ``other`` says.
        """
        values = batch.fields[self._field]
        if self._edges or self.quantiles:
            return self._label_numbers(values)
        category_N = np.empty(len(values), dtype=np.uint16)
        for i, value in enumerate(values):
            found = None if value is None else self._index.get(str(value))
            if found is None:
                found = self._place_other(value, "is no category")
            category_N[i] = found
        return Labels(category_N, np.ones(len(values), dtype=np.float32))

    def _label_numbers(self, values: Sequence[object]) -> Labels:
        number_N = np.zeros(len(values))
        other = np.zeros(len(values), dtype=bool)
        for i, value in enumerate(values):
            number = _as_number(value)
            if number is None:
                self._place_other(value, "is no number")
                other[i] = True
            elif not abs(number) <= _LARGEST_SCORE:
                raise self._error(value, "is not a finite number", "Correct the corpus.")
            else:
                number_N[i] = number
        if self.quantiles:
            category_N = np.full(len(values), TO_BIN, np.uint16)
        else:
            category_N = bin_numbers(number_N, self._edges)
        if self._other is not None:
            category_N[other] = self._other
        return Labels(category_N, number_N.astype(np.float32))

    def _place_other(self, value: object, problem: str) -> int:
        if self._other is None:
            remedy = f"set agents.{self.name}.other to the category of such values."
            if not self._edges and not self.quantiles:
                remedy = f"Add it to agents.{self.name}.categories (or .rename), or {remedy}"
            raise self._error(value, problem, remedy[0].upper() + remedy[1:])
        return self._other

    def _error(self, value: object, problem: str, remedy: str) -> DataError:
        shown = "no value" if value is None else repr(value)
        if len(shown) > _SHOWN_CHARS:
            shown = shown[:_SHOWN_CHARS] + "…"
        return DataError(
            f"agent {self.name!r}: field {self._field!r} holds {shown}, which {problem}; "
            f"the categories are {', '.join(self.categories)}. {remedy}"
        )


def bin_numbers(number_N: NDArray[np.float64], edges: Sequence[float]) -> NDArray[np.uint16]:
    """Return the bin of each of N numbers; an edge belongs to the bin above it.

    Below the first edge lies the first bin and above the last edge the last one, without end.
    """
    return np.searchsorted(np.asarray(edges), number_N, side="right").astype(np.uint16)


def _as_number(value: object) -> float | None:
    """Return a number or the number that a text spells; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None
    except OverflowError:
        return math.inf


def _problems(config: AgentConfig) -> list[str]:
    """Return what is wrong with a section, each line beginning with its key."""
    known = config.bin_names
    problems = []
    if not config.field:
        problems.append("field: the back-end 'column' needs the dotted path of a field")
    if config.model:
        problems.append("model: the back-end 'column' has no model; remove it")
    if not known:
        problems.append("categories: the back-end 'column' needs the categories, in order")
    if len(known) > TO_BIN:
        problems.append(f"categories: found {len(known)}, at most {TO_BIN} are possible")
    duplicates = [category for category, count in Counter(known).items() if count > 1]
    if duplicates:
        problems.append(f"categories: listed more than once: {', '.join(duplicates)}")
    problems += [
        f"rename: {value!r} becomes {to!r}, which is no category; {did_you_mean(to, known)}"
        for value, to in config.rename.items()
        if to not in known
    ]
    if config.other and config.other not in known:
        problems.append(
            f"other: {config.other!r} is no category; {did_you_mean(config.other, known)}"
        )
    return problems + _edge_problems(config)


def _edge_problems(config: AgentConfig) -> list[str]:
    edges = config.edges
    problems = []
    if config.rename and (edges or config.quantiles):
        key = "edges" if edges else "quantiles"
        problems.append(f"rename: a number has no names; use rename or {key}, not both")
    if not edges:
        return problems
    if config.quantiles:
        return [*problems, "quantiles: found edges too; use one of them"]
    if len(edges) + 1 != len(config.categories):
        problems.append(
            f"edges: {len(edges)} edges make {len(edges) + 1} bins, "
            f"but there are {len(config.categories)} categories"
        )
    if not all(math.isfinite(edge) for edge in edges):
        problems.append(f"edges: {list(edges)} are not all finite")
    elif any(low >= high for low, high in itertools.pairwise(edges)):
        problems.append(f"edges: {list(edges)} do not rise from each to the next")
    return problems
