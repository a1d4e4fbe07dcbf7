"""What a selection leaves behind: plan.json, selection.parquet and, if asked for, its tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from mads.errors import DataError
from mads.files import read_json, write_json, write_sealed_json
from mads.layout import RoundDir
from mads.selection.plan import Cursors
from mads.selection.take import Selection, joined_ranges
from mads.store.sealed import write_sealed
from mads.store.store import Store
from mads.types import Cells


@dataclass(frozen=True, slots=True)
class Chosen:
    """One of the selections that follow each other under one console state."""

    selection: Selection
    step: int | None = None  # of a run: the optimizer step from which on it is read
    seconds: float = 0.0  # that selecting took

    def to_table(self, cells: Cells) -> pa.Table:
        """Return the rows of selection.parquet."""
        table = self.selection.to_table(cells)
        if self.step is None:
            return table
        return table.append_column("step", pa.array([self.step] * len(table), pa.uint64()))


def write_selection(
    folder: RoundDir,
    store: Store,
    console: Mapping[str, Any],
    chosen: Sequence[Chosen],
    head: Mapping[str, Any],
) -> None:
    """Write console.json, selection.parquet and, last, plan.json.

    ``console`` is the strategy's state as JSON values; ``head`` says what was asked for: seed,
    policy and budget.
    """
    write_sealed_json(folder.console, console)
    tables = [c.to_table(store.cells) for c in chosen]
    write_sealed(folder.selection, pa.concat_tables(tables), compression="zstd")
    plan = {
        "store": store.fingerprint,
        "generation": store.generation,
        "round": console["round"],
        **head,
        "num_docs": sum(len(c.selection.doc_N) for c in chosen),
        "num_tokens": sum(c.selection.num_tokens for c in chosen),
        "ranges": joined_ranges(part for c in chosen for part in c.selection.ranges),
        "cursors": chosen[-1].selection.cursors.to_json(),
    }
    write_json(folder.plan, plan)


def read_plan(path: Path, store_fingerprint: str) -> dict[str, Any]:
    """Read a plan.

    Raises DataError when the file is no plan and, with both fingerprints, when it is of another
    store.
    """
    plan: dict[str, Any] = read_json(path)
    flaw = _flaw_of_plan(plan)
    if flaw:
        raise DataError(
            f"{path} is no plan.json: {flaw}. Give one that `mads select` or `mads train` wrote."
        )
    if plan["store"] != store_fingerprint:
        raise DataError(
            f"{path} was made with another store: found {plan['store'][:16]}, expected "
            f"{store_fingerprint[:16]}. Give the store that the run was trained on."
        )
    return plan


def _flaw_of_object(value: object, kinds: Mapping[str, type]) -> str:
    """Return which key of a JSON object is missing or of another kind, or an empty text."""
    if not isinstance(value, dict):
        return f"found a {type(value).__name__}, expected an object with {', '.join(kinds)}"
    for name, kind in kinds.items():
        if name not in value:
            return f"it has no {name!r}"
        if not _is_a(value[name], kind):
            wanted = "finite number" if kind is float else kind.__name__
            return f"{name!r} holds a {type(value[name]).__name__}, expected a {wanted}"
    return ""


def _is_a(value: object, kind: type) -> bool:
    """Return whether a JSON value is of a kind; a whole number is a float too, if finite."""
    if kind is float:
        return _is_a(value, int) or (isinstance(value, float) and math.isfinite(value))
    return type(value) is kind


def _flaw_of_plan(plan: object) -> str:
    """Return what keeps a JSON value from being a plan, or an empty text."""
    kinds: dict[str, type] = {"store": str, "seed": int, "ranges": list, "cursors": dict}
    flaw = _flaw_of_object(plan, kinds)
    if flaw or not isinstance(plan, dict):
        return flaw
    whole = ("cell", "uses", "start_row", "stop_row")
    for i, part in enumerate(plan["ranges"]):
        flaw = _flaw_of_object(part, {**dict.fromkeys(whole, int), "score": float})
        if flaw:
            return f"in ranges[{i}], {flaw}"
    columns = ("passes", "row", "tokens")
    flaw = _flaw_of_object(plan["cursors"], dict.fromkeys(columns, list))
    if flaw:
        return f"in cursors, {flaw}"
    for name in columns:
        if not all(_is_a(value, int) for value in plan["cursors"][name]):
            return f"cursors.{name} does not hold whole numbers only"
    sizes = [len(plan["cursors"][name]) for name in columns]
    return "" if len(set(sizes)) == 1 else f"the cursors' lengths differ: {sizes}"


def plan_cursors(plan: dict[str, Any]) -> Cursors:
    """Return the cursors after a plan."""
    return Cursors.from_json(plan["cursors"])
