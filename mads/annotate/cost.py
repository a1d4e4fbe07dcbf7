"""What annotating has cost: seconds by stage and agent. Measured, so no part of a store's content.

Each process notes what a span has cost it in a file of its own; whoever finishes the store adds
them up in ``cost.json``. A killed process's seconds since its last span are lost.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from mads.codec import Count, from_json, to_json
from mads.files import read_sealed_json, write_sealed_json
from mads.layout import StoreDir

T = TypeVar("T")
READ, DOCUMENTS, PLAN, BINS, INDEX = "read", "documents and tokens", "plan", "bins", "index"
REMEDY = "Delete it; only what annotating has cost is lost."


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of processes, added up over all of them, and the rows that were labelled.

    ``stages`` are "plan" (scan and tokenizer), "read", "documents and tokens", "bins" and "index";
    ``agents`` what each agent took. A row counts once for every call that worked on it.
    """

    rows: Count = 0
    stages: Mapping[str, float] = field(default_factory=dict)
    agents: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Seconds of all stages and agents."""
        return sum(self.stages.values()) + sum(self.agents.values())

    def __add__(self, other: Cost) -> Cost:
        """Return both together."""
        return Cost(
            self.rows + other.rows,
            dict(Counter(self.stages) + Counter(other.stages)),
            dict(Counter(self.agents) + Counter(other.agents)),
        )


class Clock:
    """Adds up the seconds of stages and agents in one process."""

    def __init__(self) -> None:
        self.rows = 0
        self._stages: defaultdict[str, float] = defaultdict(float)
        self._agents: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of a block."""
        with _counted(self._stages, name):
            yield

    @contextmanager
    def agent(self, name: str) -> Iterator[None]:
        """Count the time of a block that labels."""
        with _counted(self._agents, name):
            yield

    def each(self, name: str, values: Iterable[T]) -> Iterator[T]:
        """Yield values, and count the time that it takes to get them."""
        values = iter(values)
        while True:
            with self.stage(name):
                try:
                    value = next(values)
                except StopIteration:
                    return
            yield value

    @property
    def cost(self) -> Cost:
        """The sums so far."""
        return Cost(self.rows, dict(self._stages), dict(self._agents))


@contextmanager
def _counted(sums: defaultdict[str, float], name: str) -> Iterator[None]:
    begun = time.perf_counter()
    try:
        yield
    finally:
        sums[name] += time.perf_counter() - begun


def note_cost(store: StoreDir, name: str, cost: Cost) -> None:
    """Note what something has cost, under a name that nobody else takes."""
    write_sealed_json(store.costs / f"{name}.json", to_json(cost))


def read_cost(store: StoreDir) -> Cost:
    """Return what a store has cost so far, with what is noted of work that goes on.

    Raises DataError for a damaged note.
    """
    noted = sorted(store.costs.glob("*.json"))
    found = [_read(path) for path in (store.cost, *noted) if path.is_file()]
    return sum(found, Cost())


def _read(path: Path) -> Cost:
    value = read_sealed_json(path, REMEDY)
    return from_json(Cost, value, path, "a note of what annotating cost", REMEDY)


def add_up(store: StoreDir, more: Cost) -> None:
    """Make one note of all; nobody else may be at work."""
    write_sealed_json(store.cost, to_json(read_cost(store) + more))
    shutil.rmtree(store.costs, ignore_errors=True)
