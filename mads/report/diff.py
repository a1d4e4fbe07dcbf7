"""How two selections, or two console states, differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mads.console.state import read_console
from mads.layout import RoundDir
from mads.store.store import read_table


def diff_selections(a: Path, b: Path) -> dict[str, Any]:
    """Compare two selections (folders with selection.parquet): documents, tokens, composition.

    Raises DataError when one is missing or damaged.
    """
    one, two = (read_table(RoundDir(folder).selection) for folder in (a, b))
    docs_a, docs_b = (np.unique(table["doc"].to_numpy()) for table in (one, two))
    both = len(np.intersect1d(docs_a, docs_b, assume_unique=True))
    plain = {"doc", "cell", "num_tokens", "times_selected", "score", "step"}
    agents = [name for name in one.column_names if name not in plain and name in two.column_names]
    return {
        "docs": {"both": both, "only_a": len(docs_a) - both, "only_b": len(docs_b) - both},
        "tokens": [int(pc.sum(table["num_tokens"]).as_py() or 0) for table in (one, two)],
        "composition": {agent: _pair(one, two, agent) for agent in agents},
    }


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


def diff_consoles(a: Path, b: Path) -> dict[str, Any]:
    """Compare two console states: θ and w in the first and in the second (None where absent)."""
    one, two = read_console(a), read_console(b)
    agents = [*one.theta, *(name for name in two.theta if name not in one.theta)]
    weights: dict[str, dict[str, list[float | None]]] = {}
    for agent in agents:
        tables = [state.weights.get(agent, {}) for state in (one, two)]
        names = [*tables[0], *(name for name in tables[1] if name not in tables[0])]
        weights[agent] = {name: [table.get(name) for table in tables] for name in names}
    return {
        "rounds": [one.round, two.round],
        "theta": {agent: [one.theta.get(agent), two.theta.get(agent)] for agent in agents},
        "weights": weights,
    }
