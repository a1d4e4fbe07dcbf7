"""Why a document was selected or not, what other weights would change, how selections differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mads.errors import UsageError, did_you_mean
from mads.memory.store import Store, read_table
from mads.run_dir import RoundDir, RunDir
from mads.selection.export import plan_cursors, read_console, read_plan
from mads.selection.plan import cell_scores
from mads.types import ROW_BITS, Cells, ConsoleState, Status, doc_id

Shares = dict[str, dict[str, list[float]]]
"""Agent -> category -> shares of tokens (before, after)."""


def composition(cells: Cells, before_C: NDArray[Any], after_C: NDArray[Any]) -> Shares:
    """Return each category's share of the tokens in two distributions over cells."""
    result: Shares = {}
    for column, agent in enumerate(cells.agents):
        names = cells.categories[agent]
        pair = [
            np.bincount(cells.category_CA[:, column], tokens_C, len(names)) / max(tokens_C.sum(), 1)
            for tokens_C in (before_C, after_C)
        ]
        result[agent] = {name: [float(share[i]) for share in pair] for i, name in enumerate(names)}
    return result


def scaled_theta(state: ConsoleState, text: str) -> ConsoleState:
    """Return a state whose θ are multiplied as in ``quality=2,domain=0``; their sum is kept.

    Raises UsageError for an unknown agent, a factor that is not a number, or nothing left.
    """
    factors = dict.fromkeys(state.theta, 1.0)
    for part in text.split(","):
        agent, equals, number = part.strip().partition("=")
        if agent not in factors:
            raise UsageError(f"--what-if: {agent!r} is no agent; {did_you_mean(agent, factors)}")
        try:
            factors[agent] = float(number)
        except ValueError:
            factors[agent] = -1.0
        if not equals or not 0 <= factors[agent] < float("inf"):
            raise UsageError(f"--what-if {part!r} is not of the form agent=factor (0 or more).")
    theta = {agent: value * factors[agent] for agent, value in state.theta.items()}
    total = sum(theta.values())
    if total <= 0:
        raise UsageError(f"--what-if {text!r} leaves no agent.")
    scale = sum(state.theta.values()) / total
    return replace(state, theta={agent: value * scale for agent, value in theta.items()})


def find_document(store: Store, text: str) -> int:
    """Return the number of a document given as a number or as ``file:row`` (rows from 0).

    Raises UsageError when there is no such document, or when the file's name is ambiguous.
    """
    shards = store.draft.shards
    if text.isdigit():
        shard, row = int(text) >> ROW_BITS, int(text) & ((1 << ROW_BITS) - 1)
        if shard >= len(shards) or row >= shards[shard].num_rows:
            raise UsageError(f"the store has no document {text}; give file:row, say.")
        return int(text)
    name, colon, number = text.rpartition(":")
    if not colon or not number.isdigit():
        raise UsageError(f"{text!r} is neither a document's number nor file:row.")
    files = [i for i, f in enumerate(store.draft.files) if ("/" + f.path).endswith("/" + name)]
    if len(files) != 1:
        known = [Path(f.path).name for f in store.draft.files]
        what = did_you_mean(name, known) if not files else f"{len(files)} files end so"
        raise UsageError(f"{name!r} does not name one corpus file of this store; {what}")
    for shard, part in enumerate(shards):
        row = int(number) - part.first_row
        if part.file == files[0] and 0 <= row < part.num_rows:
            return doc_id(shard, row)
    rows = store.draft.files[files[0]].num_rows
    raise UsageError(f"{name} has {rows} rows (0 to {rows - 1}); found row {number}.")


def explain(store: Store, run: Path, doc: int) -> dict[str, Any]:
    """Return all that the store and the run know of a document, as JSON values.

    For each round: the weights of its categories, θ, its score before decay, the rank of its cell,
    how often the round selected it and from which optimizer steps on.
    """
    shard, row = doc >> ROW_BITS, doc & ((1 << ROW_BITS) - 1)
    part = store.draft.shards[shard]
    documents = store.documents(shard)
    facts = {name: documents[name][row].as_py() for name in ("status", "num_tokens", "num_bytes")}
    result: dict[str, Any] = {
        "doc": doc,
        "file": store.draft.files[part.file].path,
        "row": part.first_row + row,
        **facts,
    }
    if facts["status"] != Status.OK.value:
        return {**result, "labels": {}, "rounds": []}
    labels = {}
    for agent, info in store.draft.agents.items():
        memory = store.memory(agent, shard)
        category = info.categories[int(memory.category_N[row])]
        labels[agent] = {"category": category, "score": float(memory.score_N[row])}
    cell, place = _locate(store, labels, doc)
    rounds = _rounds(store, RunDir(run), labels, doc, cell, place)
    return {
        **result,
        "labels": labels,
        "cell": cell,
        "cell_docs": int(store.cells.num_docs_C[cell]),
        "place_in_cell": place,
        "rounds": rounds,
        **_turn(store, RunDir(run), cell, place),
    }


def _locate(store: Store, labels: Mapping[str, Any], doc: int) -> tuple[int, int]:
    """Return a document's cell and its place in the cell's order."""
    cells = store.cells
    wanted = [cells.categories[a].index(labels[a]["category"]) for a in cells.agents]
    cell = int(np.flatnonzero((cells.category_CA == np.array(wanted)).all(axis=1))[0])
    first = int(cells.first_row_C[cell])
    rows = np.arange(first, first + int(cells.num_docs_C[cell]))
    return cell, int(np.flatnonzero(store.order_docs(rows) == np.uint64(doc))[0])


def _rounds(
    store: Store, run: RunDir, labels: Mapping[str, Any], doc: int, cell: int, place: int
) -> list[dict[str, Any]]:
    found = []
    for number in range(run.last_round() + 1):
        folder = run.round(number)
        state = read_console(folder.console)
        plan = read_plan(folder.plan, store.fingerprint)
        score_C = cell_scores(store.cells, state)
        times = sum(
            part["cell"] == cell and part["start_row"] <= place < part["stop_row"]
            for part in plan["ranges"]
        )
        found.append(
            {
                "round": number,
                "theta": dict(state.theta),
                "weights": {a: state.weights[a][labels[a]["category"]] for a in labels},
                "score": float(score_C[cell]),
                "rank": int((score_C > score_C[cell]).sum()) + 1,
                "cells": len(score_C),
                "selected": times,
                "steps": _steps(folder, doc) if times else [],
            }
        )
    return found


def _steps(folder: RoundDir, doc: int) -> list[int]:
    """Return the steps from which on a round reads a document."""
    table = read_table(folder.selection, ["doc", "step"])
    steps: list[int] = table["step"].to_numpy()[table["doc"].to_numpy() == np.uint64(doc)].tolist()
    return steps


def _turn(store: Store, run: RunDir, cell: int, place: int) -> dict[str, int]:
    """Return when a document's turn comes: how many of its cell come before it, and the pace."""
    plan = read_plan(run.round(run.last_round()).plan, store.fingerprint)
    row = int(plan_cursors(plan).row_C[cell])
    mine = [part for part in plan["ranges"] if part["cell"] == cell]
    return {
        "docs_before_it": (place - row) % int(store.cells.num_docs_C[cell]),
        "cell_docs_last_round": sum(part["stop_row"] - part["start_row"] for part in mine),
    }


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
