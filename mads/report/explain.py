"""Why a document was selected or not, what other weights would change, how selections differ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mads.console.scores import cell_scores
from mads.console.state import read_console
from mads.errors import UsageError, did_you_mean
from mads.layout import RoundDir, RunDir
from mads.selection.plan_file import plan_cursors, read_plan
from mads.store.store import Store, read_table
from mads.types import ROW_BITS, Status, doc_id


def find_document(store: Store, text: str) -> int:
    """Return the number of a document given as a number or as ``file:row`` (rows from 0).

    Raises UsageError when there is no such document, or when the file's name is ambiguous.
    """
    shards = store.spec.shards
    if text.isdigit():
        shard, row = int(text) >> ROW_BITS, int(text) & ((1 << ROW_BITS) - 1)
        if shard >= len(shards) or row >= shards[shard].num_rows:
            raise UsageError(f"the store has no document {text}; give file:row, say.")
        return int(text)
    name, colon, number = text.rpartition(":")
    if not colon or not number.isdigit():
        raise UsageError(f"{text!r} is neither a document's number nor file:row.")
    files = [i for i, f in enumerate(store.spec.files) if ("/" + f.path).endswith("/" + name)]
    if len(files) != 1:
        known = [Path(f.path).name for f in store.spec.files]
        what = did_you_mean(name, known) if not files else f"{len(files)} files end so"
        raise UsageError(f"{name!r} does not name one corpus file of this store; {what}")
    for shard, part in enumerate(shards):
        row = int(number) - part.first_row
        if part.file == files[0] and 0 <= row < part.num_rows:
            return doc_id(shard, row)
    rows = store.spec.files[files[0]].num_rows
    raise UsageError(f"{name} has {rows} rows (0 to {rows - 1}); found row {number}.")


def explain(store: Store, run: Path, doc: int) -> dict[str, Any]:
    """Return all that the store and the run know of a document, as JSON values.

    For each round: the weights of its categories, θ, its score before decay, the rank of its cell,
    how often the round selected it and from which optimizer steps on.
    """
    shard, row = doc >> ROW_BITS, doc & ((1 << ROW_BITS) - 1)
    part = store.spec.shards[shard]
    documents = store.documents(shard)
    facts = {name: documents[name][row].as_py() for name in ("status", "num_tokens", "num_bytes")}
    result: dict[str, Any] = {
        "doc": doc,
        "file": store.spec.files[part.file].path,
        "row": part.first_row + row,
        **facts,
    }
    if facts["status"] != Status.OK.value:
        return {**result, "labels": {}, "rounds": []}
    labels = {}
    for agent, info in store.spec.agents.items():
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
