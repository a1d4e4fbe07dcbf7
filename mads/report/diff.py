"""How two selections, or two console states, differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mads.console.state import read_console
from mads.layout import RoundDir
from mads.selection.composition import Shares
from mads.selection.plan_file import load_plan, read_selection
from mads.selection.take import FIRST_TOKEN, SELECTION_SCHEMA, STEP

Pair = tuple[float | None, float | None]
"""A weight in the first and in the second state; None where it is absent."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many different documents two selections share."""

    both: int
    only_a: int
    only_b: int


@dataclass(frozen=True, slots=True)
class SelectionDiff:
    """How two selections differ: documents, tokens (a, b), and shares of tokens (a, b)."""

    docs: Overlap
    tokens: tuple[int, int]
    composition: Shares


@dataclass(frozen=True, slots=True)
class ConsoleDiff:
    """How two console states differ."""

    rounds: tuple[int, int]
    theta: Mapping[str, Pair]
    weights: Mapping[str, Mapping[str, Pair]]


def diff_selections(a: Path, b: Path) -> SelectionDiff:
    """Compare two selections (folders with plan.json and selection.parquet).

    Raises DataError when one is missing or damaged.
    """
    one, two = (read_selection(RoundDir(f), load_plan(RoundDir(f).plan)) for f in (a, b))
    docs_a, docs_b = (np.unique(table["doc"].to_numpy()) for table in (one, two))
    both = len(np.intersect1d(docs_a, docs_b, assume_unique=True))
    plain = {*SELECTION_SCHEMA.names, FIRST_TOKEN.name, STEP.name}
    agents = [name for name in one.column_names if name not in plain and name in two.column_names]
    return SelectionDiff(
        docs=Overlap(both, len(docs_a) - both, len(docs_b) - both),
        tokens=(_num_tokens(one), _num_tokens(two)),
        composition={agent: _pair(one, two, agent) for agent in agents},
    )


def _num_tokens(table: pa.Table) -> int:
    return int(pc.sum(table["num_tokens"]).as_py() or 0)


def _pair(one: pa.Table, two: pa.Table, agent: str) -> dict[str, list[float]]:
    shares: list[dict[str, float]] = []
    for table in (one, two):
        names = table[agent].cast(pa.string())
        plain = pa.table({"category": names, "tokens": table["num_tokens"].cast(pa.int64())})
        grouped = plain.group_by("category").aggregate([("tokens", "sum")]).to_pydict()
        total = max(sum(grouped["tokens_sum"]), 1)
        pairs = zip(grouped["category"], grouped["tokens_sum"], strict=True)
        shares.append({name: tokens / total for name, tokens in pairs})
    names = sorted(shares[0].keys() | shares[1].keys())
    return {name: [share.get(name, 0.0) for share in shares] for name in names}


def diff_consoles(a: Path, b: Path) -> ConsoleDiff:
    """Compare two console states; raises DataError when one is missing or damaged."""
    one, two = read_console(a), read_console(b)
    weights = {
        agent: _values(one.weights.get(agent, {}), two.weights.get(agent, {}))
        for agent in {**one.theta, **two.theta}
    }
    return ConsoleDiff((one.round, two.round), _values(one.theta, two.theta), weights)


def _values(one: Mapping[str, float], two: Mapping[str, float]) -> dict[str, Pair]:
    return {name: (one.get(name), two.get(name)) for name in {**one, **two}}
