"""What a selection leaves behind: plan.json, selection.parquet and, if asked for, its tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mads.console.state import _flaw_of_object, _is_a, console_to_json
from mads.errors import DataError
from mads.files import atomic_path, read_json, write_json
from mads.layout import RoundDir
from mads.selection.plan import Cursors
from mads.selection.take import Selection, joined_ranges
from mads.store.store import Store
from mads.types import Cells, ConsoleState


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
    state: ConsoleState,
    chosen: Sequence[Chosen],
    head: Mapping[str, Any],
) -> None:
    """Write console.json, selection.parquet and, last, plan.json.

    ``head`` says what was asked for: seed, policy and budget.
    """
    write_json(folder.console, console_to_json(state))
    tables = [c.to_table(store.cells) for c in chosen]
    with atomic_path(folder.selection) as partial:
        pq.write_table(pa.concat_tables(tables), partial, compression="zstd")
    plan = {
        "store": store.fingerprint,
        "round": state.round,
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
