"""What all back-ends share: the registry's entry, and bins around an agent that only scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mads.config import AgentConfig
from mads.errors import UsageError
from mads.types import NO_CATEGORY, Agent, DocumentBatch, Labels, Scorer, Scores

MAX_CATEGORIES = NO_CATEGORY - 1


@dataclass(frozen=True, slots=True)
class Backend:
    """One kind of agent: its section of the recipe, and what opens it."""

    section: type[AgentConfig]
    open: Callable[[str, Any], Agent | QuantileBins]


@runtime_checkable
class Preparing(Protocol):
    """What makes files of its own before the first document is labelled: an index of a table."""

    def prepare(self, folder: Path, files: Mapping[str, int]) -> None:
        """Make what is needed below ``folder``, unless it is there, and open it.

        ``files`` are all files of the corpus by their whole paths, with their rows. Raises
        DataError or UsageError for what does not fit them. The first call is alone; others, of
        workers, find everything made.
        """


def devices_of(agent: object) -> tuple[str, ...]:
    """Return the GPUs that an agent or a scorer works on, by their places; none = on the CPU."""
    found: tuple[str, ...] = getattr(agent, "devices", ())
    return found


def prepare(agent: object, folder: Path, files: Mapping[str, int]) -> None:
    """Let an agent or a scorer prepare itself if it does so."""
    if isinstance(agent, Preparing):
        agent.prepare(folder, files)


def fingerprint(*facts: object) -> str:
    """Return a sha256 over everything that can change a label."""
    text = json.dumps(facts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def bin_numbers(number_N: NDArray[Any], edges: Sequence[float]) -> NDArray[np.uint16]:
    """Return the bin of each of N numbers; an edge belongs to the bin above it.

    Below the first edge lies the first bin and above the last edge the last one, without end.
    """
    return np.searchsorted(np.asarray(edges, np.float64), number_N, side="right").astype(np.uint16)


def named_bins(agent: str, categories: Sequence[str], quantiles: int) -> tuple[str, ...]:
    """Return the names of an agent's bins; raises UsageError for more or fewer than there are."""
    names = bin_names(categories, quantiles)
    if len(names) != quantiles:
        raise UsageError(
            f"agents.{agent}.categories: found {len(names)}, but quantiles makes {quantiles} bins; "
            "give as many names, or none."
        )
    return names


def bin_names(categories: Sequence[str], quantiles: int) -> tuple[str, ...]:
    """Return the names of quantile bins, lowest scores first: the given ones, or q1, q2, …"""
    return tuple(categories) or tuple(f"q{i + 1}" for i in range(quantiles))


class FixedBins:
    """An agent whose categories are bins of a score between given edges.

    A document without a score gets the category ``other``.
    """

    def __init__(
        self,
        name: str,
        scorer: Scorer,
        categories: Sequence[str],
        edges: Sequence[float],
        other: int,
    ) -> None:
        self.name = name
        self.categories = tuple(categories)
        self.fields = scorer.fields
        self._scorer, self._edges, self._other = scorer, edges, other

    @cached_property
    def fingerprint(self) -> str:
        """What changes with any label; the scorer's may cost a look at all that it reads."""
        edges = list(self._edges)
        return fingerprint(self._scorer.fingerprint, self.categories, edges, self._other)

    @property
    def devices(self) -> tuple[str, ...]:
        """Return the scorer's GPUs."""
        return devices_of(self._scorer)

    def prepare(self, folder: Path, files: Mapping[str, int]) -> None:
        """Prepare the scorer."""
        prepare(self._scorer, folder, files)

    def label(self, batch: DocumentBatch) -> Labels:
        """Label N documents; the score is the scorer's."""
        scores = self._scorer.score(batch)
        category_N = bin_numbers(scores.score_N, self._edges)
        category_N[~scores.known_N] = self._other
        return Labels(category_N, scores.score_N)


class QuantileBins:
    """Bins of as many documents each, whose edges follow from the scores of the whole corpus.

    It only scores; ``mads/annotate/binned.py`` finds the edges and labels. A document without a
    score gets the category ``other``, or counts with the score 0 where that is None. ``other`` may
    be a category of its own, after the bins.
    """

    def __init__(
        self, name: str, scorer: Scorer, bins: Sequence[str], other: str | None = None
    ) -> None:
        own = other is not None and other not in bins
        self.name = name
        self.num_bins = len(bins)
        self.categories = (*bins, other) if own and other is not None else tuple(bins)
        self.fields = scorer.fields
        self.other = None if other is None else self.categories.index(other)
        self._scorer = scorer

    @cached_property
    def fingerprint(self) -> str:
        """What changes with any label; the scorer's may cost a look at all that it reads."""
        facts = [self._scorer.fingerprint, "quantiles", self.categories, self.other]
        own = [] if self.num_bins == len(self.categories) else [self.num_bins]
        return fingerprint(*facts, *own)

    @property
    def devices(self) -> tuple[str, ...]:
        """Return the scorer's GPUs."""
        return devices_of(self._scorer)

    def prepare(self, folder: Path, files: Mapping[str, int]) -> None:
        """Prepare the scorer."""
        prepare(self._scorer, folder, files)

    def score(self, batch: DocumentBatch) -> Scores:
        """Score N documents."""
        scores = self._scorer.score(batch)
        if self.other is not None:
            return scores
        return Scores(scores.score_N, np.ones(len(scores.score_N), bool))
