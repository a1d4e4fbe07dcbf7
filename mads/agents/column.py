"""The ``column`` back-end: labels that the corpus already carries.

A value is a category's name, perhaps after ``rename``. With ``edges`` or ``quantiles`` it is a
number and the categories are its bins.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np

from mads.agents.agent import (
    MAX_CATEGORIES,
    Backend,
    FixedBins,
    QuantileBins,
    bin_names,
    fingerprint,
)
from mads.codec import Within
from mads.config import AgentConfig
from mads.errors import DataError, UsageError, did_you_mean
from mads.types import Agent, DocumentBatch, Labels, Scores
from mads.units import shorten

LARGEST_SCORE = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class ColumnConfig(AgentConfig):
    """``column``: a field of the corpus."""

    field: str = ""  # dotted path to the value
    categories: tuple[str, ...] = ()  # in order
    rename: dict[str, str] = dataclasses.field(default_factory=dict)  # value -> category
    other: str = ""  # category of every other value; without it such a value is an error
    edges: tuple[float, ...] = ()  # inner bin edges of a number, one fewer than categories
    # Bins of as many documents each, over the whole corpus; their names are q1, q2, … or
    # ``categories``, lowest first
    quantiles: Annotated[int, Within(0, 100)] = 0


def open_column(name: str, config: ColumnConfig) -> Agent | QuantileBins:
    """Open the agent of a section; raises UsageError that lists every problem of it."""
    refuse(name, problems(config, ["field"]))
    if not config.edges and not config.quantiles:
        return ColumnAgent(name, config)
    categories = bin_names(config.categories, config.quantiles)
    numbers = ColumnNumbers(name, config, categories)
    if config.quantiles:
        return QuantileBins(name, numbers, categories, config.other or None)
    other = categories.index(config.other) if config.other else 0
    return FixedBins(name, numbers, categories, config.edges, other)


BACKEND = Backend(ColumnConfig, open_column)


class ColumnAgent:
    """Reads the category of each document from a field (see ``ColumnConfig`` for the keys)."""

    def __init__(self, name: str, config: ColumnConfig) -> None:
        self.name = name
        self.categories = config.categories
        self.fields: tuple[str, ...] = (config.field,)
        self.fingerprint = fingerprint(
            "column", config.field, self.categories, sorted(config.rename.items()), config.other
        )
        index = {category: i for i, category in enumerate(self.categories)}
        self._index = index | {value: index[to] for value, to in config.rename.items()}
        self._other = index.get(config.other)

    def label(self, batch: DocumentBatch) -> Labels:
        """Label N documents; the score is 1. Raises DataError for a value that has no place."""
        values = batch.fields[self.fields[0]]
        category_N = np.empty(len(values), dtype=np.uint16)
        for i, value in enumerate(values):
            found = None if value is None else self._index.get(str(value))
            if found is None:
                found = self._other
            if found is None:
                place = f"agents.{self.name}.categories (or .rename)"
                raise _misplaced(self, value, "is no category", f"Add it to {place}, or set")
            category_N[i] = found
        return Labels(category_N, np.ones(len(values), dtype=np.float32))


class ColumnNumbers:
    """Reads a number of each document from a field; one is unknown where ``other`` is set."""

    def __init__(self, name: str, config: ColumnConfig, categories: tuple[str, ...]) -> None:
        self.name = name
        self.categories = categories
        self.fields: tuple[str, ...] = (config.field,)
        self.fingerprint = fingerprint("column number", config.field, config.other)
        self._has_other = bool(config.other)

    def score(self, batch: DocumentBatch) -> Scores:
        """Score N documents.

        Raises DataError for a value that is no number, unless there is ``other``, and for NaN and
        infinity in any case.
        """
        values = batch.fields[self.fields[0]]
        number_N, known_N = np.zeros(len(values)), np.ones(len(values), bool)
        for i, value in enumerate(values):
            number = as_number(value)
            if number is None:
                if not self._has_other:
                    raise _misplaced(self, value, "is no number", "Set")
                known_N[i] = False
            elif not abs(number) <= LARGEST_SCORE:
                raise _error(self, value, "is not a finite number", "Correct the corpus.")
            else:
                number_N[i] = number
        return Scores(number_N.astype(np.float32), known_N)


def _misplaced(
    agent: ColumnAgent | ColumnNumbers, value: object, problem: str, begin: str
) -> DataError:
    remedy = f"{begin} agents.{agent.name}.other to the category of such values."
    return _error(agent, value, problem, remedy)


def _error(
    agent: ColumnAgent | ColumnNumbers, value: object, problem: str, remedy: str
) -> DataError:
    shown = "no value" if value is None else shorten(value)
    return DataError(
        f"agent {agent.name!r}: field {agent.fields[0]!r} holds {shown}, which {problem}; "
        f"the categories are {', '.join(agent.categories)}. {remedy}"
    )


def as_number(value: object) -> float | None:
    """Return a number or the number that a text spells; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None
    except OverflowError:
        return math.inf


def refuse(name: str, problems: Sequence[str]) -> None:
    """Raise UsageError for what is wrong with an agent's section, if there is anything."""
    if problems:
        lines = "\n".join(f"  agents.{name}.{problem}" for problem in problems)
        raise UsageError(f"agent {name!r} cannot be opened:\n{lines}")


def problems(config: ColumnConfig, needed: Sequence[str]) -> list[str]:
    """Return what is wrong with a section, each line beginning with its key.

    ``needed`` are the keys of fields that it must have.
    """
    known = bin_names(config.categories, config.quantiles)
    who = f"the back-end {config.backend!r} needs"
    found = [
        f"{key}: {who} the dotted path of a field" for key in needed if not getattr(config, key)
    ]
    if not known:
        found.append(f"categories: {who} the categories, in order")
    found += bin_problems(config, known)
    found += [
        f"rename: {value!r} becomes {to!r}, which is no category; {did_you_mean(to, known)}"
        for value, to in config.rename.items()
        if to not in known
    ]
    if config.rename and (config.edges or config.quantiles):
        key = "edges" if config.edges else "quantiles"
        found.append(f"rename: a number has no names; use rename or {key}, not both")
    return found


class Binned(Protocol):
    """A section whose categories may be the bins of a number."""

    @property
    def categories(self) -> tuple[str, ...]:
        """Names, in order."""

    @property
    def other(self) -> str:
        """The category of what has no number."""

    @property
    def edges(self) -> tuple[float, ...]:
        """Inner edges of bins."""

    @property
    def quantiles(self) -> int:
        """How many bins of as many documents each."""


def bin_problems(config: Binned, known: Sequence[str]) -> list[str]:
    """Return what is wrong with the categories of a section, ``known`` being all that it has."""
    found = []
    if config.quantiles == 1:
        found.append("quantiles: found 1, expected 2 to 100")
    if config.quantiles and len(known) != config.quantiles:
        found.append(
            f"categories: found {len(known)}, but quantiles makes {config.quantiles} bins; "
            "give as many names, or none"
        )
    if len(known) > MAX_CATEGORIES:
        found.append(f"categories: found {len(known)}, at most {MAX_CATEGORIES} are possible")
    duplicates = [category for category, count in Counter(known).items() if count > 1]
    if duplicates:
        found.append(f"categories: listed more than once: {', '.join(duplicates)}")
    if config.other and config.other not in known:
        found.append(f"other: {config.other!r} is no category; {did_you_mean(config.other, known)}")
    return found + _edge_problems(config)


def _edge_problems(config: Binned) -> list[str]:
    edges = config.edges
    if not edges:
        return []
    if config.quantiles:
        return ["quantiles: found edges too; use one of them"]
    problems = []
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
