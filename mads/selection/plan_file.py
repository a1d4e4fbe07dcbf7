"""What a selection leaves behind: console.json, selection.parquet and plan.json, all typed.

plan.json says which rows of which cells were taken and where the cursors stand afterwards. It is
written last and seals the Parquet files beside it, so whoever reads one of them can be sure that
it is the plan's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mads.codec import Count, Within, from_json, to_json
from mads.errors import DataError
from mads.files import read_sealed_json, write_sealed_json
from mads.layout import RoundDir
from mads.sealed import Seal, read_seal, read_sealed, write_sealed
from mads.selection.plan import Cursors
from mads.selection.ranges import Range, joined_ranges
from mads.selection.take import FIRST_TOKEN, STEP, Selection
from mads.store.documents import ID
from mads.store.store import Store
from mads.types import Cells, Ints
from mads.units import LARGEST_COUNT, Budget, shorten

REMEDY = "Give one that `mads select` or `mads train` wrote."
FILE_REMEDY = "Put the file back that belongs to the plan.json."
LARGEST_USE = 2**62  # of a cell, in tokens, all passes counted


@dataclass(frozen=True, slots=True)
class SavedRequest:
    """What `mads select` or `mads part` was asked for: the same again gives the same files."""

    store: str  # its fingerprint
    generation: int
    follows: str  # sha256 of the scores and cursors, or of the plan that a part is cut from
    budget: str
    policy: str
    settings: str  # sha256 of what else the selection section says
    seed: int
    shard: str  # i/n of a part
    texts: bool
    megatron: bool

    def differences(self, other: SavedRequest) -> list[str]:
        """Return ``key: mine -> the other's`` for every key in which two requests differ."""
        pairs = [
            (field.name, getattr(self, field.name), getattr(other, field.name))
            for field in dataclasses.fields(self)
        ]
        return [
            f"{name}: {_shown(name, mine)} -> {_shown(name, new)}"
            for name, mine, new in pairs
            if mine != new
        ]


def _shown(name: str, value: Any) -> str:
    if name in ("store", "follows", "settings"):
        return value[:16] or "none"
    return shorten(value) if value != "" else "none"


@dataclass(frozen=True, slots=True)
class Head:
    """What was asked for."""

    seed: int
    policy: str
    budget: Budget
    request: SavedRequest | None = None  # of a selection by hand


@dataclass(frozen=True, slots=True, eq=False)
class SavedCursors:
    """The cursors after a plan, one value per cell."""

    passes: NDArray[np.int64]
    row: NDArray[np.int64]
    tokens: NDArray[np.int64]
    inside: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SavedPlan:
    """plan.json."""

    store: str  # its fingerprint
    generation: int
    round: Count
    seed: Annotated[int, Within(0, 2**64)]
    policy: str
    budget: Budget
    num_docs: Count
    num_tokens: Count
    ranges: tuple[Range, ...]
    cursors: SavedCursors
    files: Mapping[str, Seal]  # of what lies beside it
    request: SavedRequest | None = None
    shard: str = ""  # i/n of a part
    refresh: Count = 0  # the round with which the run made a generation of its own; 0 = the store's

    @property
    def cursors_after(self) -> Cursors:
        """Where the cursors stand after the plan."""
        found = self.cursors
        return Cursors(found.passes, found.row, found.tokens, found.inside)

    def tokens_by_cell(self, num_cells: int) -> Ints:
        """Return how many tokens were taken of each cell."""
        picked_C = np.zeros(num_cells, np.int64)
        for part in self.ranges:
            picked_C[part.cell] += part.num_tokens
        return picked_C


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
        first = pa.array(self.selection.first_token_N, FIRST_TOKEN.type)
        steps = pa.array([self.step] * len(table), STEP.type)
        return table.append_column(FIRST_TOKEN, first).append_column(STEP, steps)


def write_selection(
    folder: RoundDir,
    store: Store,
    state: Mapping[str, Any],
    chosen: Sequence[Chosen],
    head: Head,
) -> SavedPlan:
    """Write console.json, selection.parquet and, last, plan.json; return the plan.

    ``state`` is the strategy's, as JSON values.
    """
    write_sealed_json(folder.console, state)
    table = pa.concat_tables([c.to_table(store.cells) for c in chosen])
    if head.request is not None:  # by hand: whoever gets it knows the documents by their own ids
        table = with_ids(store, table)
    write_sealed(folder.selection, table, compression="zstd")
    cursors = chosen[-1].selection.cursors
    ranges = tuple(joined_ranges(part for c in chosen for part in c.selection.ranges))
    plan = SavedPlan(
        store=store.fingerprint,
        generation=store.generation,
        round=state["round"],
        seed=head.seed,
        policy=head.policy,
        budget=head.budget,
        num_docs=sum(part.num_docs for part in ranges),
        num_tokens=sum(c.selection.num_tokens for c in chosen),
        ranges=ranges,
        cursors=SavedCursors(cursors.passes_C, cursors.row_C, cursors.tokens_C, cursors.inside_C),
        files=seals_of(folder),
        request=head.request,
        refresh=store.refresh,
    )
    write_plan(folder.plan, plan)
    return plan


def with_ids(store: Store, table: pa.Table) -> pa.Table:
    """Return a table of documents with the user's ids, where the store keeps them."""
    if not store.spec.id_field:
        return table
    return table.append_column(ID, pa.array(store.ids(table["doc"].to_numpy()), ID.type))


def seals_of(folder: RoundDir) -> dict[str, Seal]:
    """Return the seals of a folder's Parquet files."""
    paths = (folder.selection, folder.rewards)
    return {path.name: read_seal(path) for path in paths if path.is_file()}


def write_plan(path: Path, plan: SavedPlan) -> None:
    """Write plan.json."""
    write_sealed_json(path, to_json(plan))


def read_selection(folder: RoundDir, plan: SavedPlan, columns: list[str] | None = None) -> pa.Table:
    """Return selection.parquet; raises DataError when it is missing or not the plan's."""
    return read_sealed(folder.selection, columns, seal_in(plan, folder.selection), FILE_REMEDY)


def read_rewards(folder: RoundDir, plan: SavedPlan, columns: list[str] | None = None) -> pa.Table:
    """Return rewards.parquet; raises DataError when it is missing or not the plan's."""
    return read_sealed(folder.rewards, columns, seal_in(plan, folder.rewards), FILE_REMEDY)


def seal_in(plan: SavedPlan, path: Path) -> Seal:
    """Return what a plan says of a file beside it; raises DataError when it says nothing."""
    if path.name in plan.files:
        return plan.files[path.name]
    raise DataError(f"{path.with_name('plan.json')} says nothing of {path.name}. {REMEDY}")


def load_plan(path: Path) -> SavedPlan:
    """Read a plan of any store; raises DataError when the file is missing, damaged or no plan."""
    value = read_sealed_json(path, REMEDY)
    return from_json(SavedPlan, value, path, "a plan.json", REMEDY)


def read_plan(path: Path, store: Store) -> SavedPlan:
    """Read a plan.

    Raises DataError when the file is missing or no plan and, with both values, when it is of
    another store or generation, or speaks of what its store does not hold.
    """
    return check_plan(load_plan(path), path, store)


def check_plan(plan: SavedPlan, path: Path, store: Store) -> SavedPlan:
    """Return a plan that was read from ``path``; raises DataError where it is not of the store."""
    found = plan.store, plan.generation, plan.refresh
    expected = store.fingerprint, store.generation, store.refresh
    if found != expected:
        raise DataError(
            f"{path} was made with another store: found {_named(*found)}, expected "
            f"{_named(*expected)}. Give the store that the run was trained on."
        )
    cells = store.cells
    flaw = _flaw_of_plan(plan) or _flaw_of_cursors(plan, cells)
    flaws = [flaw] if flaw else [_flaw_of_range(plan, i, cells) for i in range(len(plan.ranges))]
    flaw = next(filter(None, flaws), "") or _overlap(plan.ranges)
    if flaw:
        raise DataError(f"{path} does not fit its store: {flaw}. {REMEDY}")
    return plan


def _named(fingerprint: str, generation: int, refresh: int) -> str:
    """Return how a message names a store."""
    own = f", the run's own of round {refresh}" if refresh else ""
    return f"{fingerprint[:16]} (generation {generation}{own})"


def _flaw_of_plan(plan: SavedPlan) -> str:
    """Return what keeps a plan's numbers from belonging together, or an empty text."""
    if not 1 <= plan.budget.amount <= LARGEST_COUNT:
        return f"budget.amount is {plan.budget.amount}, expected 1 to {LARGEST_COUNT}"
    docs = sum(part.num_docs for part in plan.ranges)
    if docs != plan.num_docs:
        return f"num_docs is {plan.num_docs}, but its ranges hold {docs} documents"
    tokens = sum(part.num_tokens for part in plan.ranges)
    if tokens != plan.num_tokens:
        return f"num_tokens is {plan.num_tokens}, but its ranges hold {tokens} tokens"
    return ""


def _flaw_of_cursors(plan: SavedPlan, cells: Cells) -> str:
    """Return which cursor is outside its cell, or an empty text."""
    found = plan.cursors
    sizes = [len(found.passes), len(found.row), len(found.tokens), len(found.inside)]
    if set(sizes) != {len(cells)}:
        return (
            f"cursors of {sizes} cells (passes, row, tokens, inside), but it has {len(cells)} cells"
        )
    limits = {
        "passes": (found.passes, LARGEST_USE // np.maximum(cells.num_tokens_C, 1)),
        "row": (found.row, cells.num_docs_C - 1),
        "tokens": (found.tokens, np.maximum(cells.num_tokens_C - 1, 0)),
        # A document has a token at least, so these are of the documents before the cursor's.
        "inside": (found.inside, found.tokens - found.row),
    }
    for name, (value_C, most_C) in limits.items():
        outside = np.flatnonzero((value_C < 0) | (value_C > most_C))
        if len(outside):
            cell = int(outside[0])
            return f"cursors.{name}[{cell}] is {value_C[cell]}, expected 0 to {most_C[cell]}"
    astray = np.flatnonzero((found.row == 0) & (found.tokens != found.inside))
    if len(astray):
        cell = int(astray[0])
        return (
            f"cursors.tokens[{cell}] is {found.tokens[cell]}, expected {found.inside[cell]}, as "
            "in cursors.inside: there is no document before it"
        )
    return ""


def _flaw_of_range(plan: SavedPlan, number: int, cells: Cells) -> str:
    """Return what a range says that its cell or the cursors contradict, or an empty text."""
    part, place = plan.ranges[number], f"ranges[{number}]"
    if part.cell >= len(cells):
        return f"{place}.cell is {part.cell}, but there are {len(cells)} cells"
    docs, tokens = int(cells.num_docs_C[part.cell]), int(cells.num_tokens_C[part.cell])
    if not part.start_row < part.stop_row <= docs:
        return (
            f"{place} has the rows {part.start_row} to {part.stop_row}, but cell {part.cell} has "
            f"{docs} documents"
        )
    if not part.start_tokens <= part.stop_tokens <= tokens:
        return (
            f"{place} has the tokens {part.start_tokens} to {part.stop_tokens}, but cell "
            f"{part.cell} has {tokens}"
        )
    begins = part.start_row > 0 or part.start_tokens == 0
    ends = part.stop_row < docs or part.stop_tokens == tokens
    if plan.request is None:  # of a run, which may begin and end within documents
        begins, ends = part.start_row <= part.start_tokens, True
    # A document has a token at least.
    if not (begins and ends and docs - part.stop_row <= tokens - part.stop_tokens):
        return (
            f"{place}: the rows {part.start_row} to {part.stop_row} of {docs} do not go with the "
            f"tokens {part.start_tokens} to {part.stop_tokens} of {tokens}"
        )
    passes, row, reached, inside = (
        int(value[part.cell])
        for value in (
            *(plan.cursors.passes, plan.cursors.row, plan.cursors.tokens, plan.cursors.inside),
        )
    )
    if part.uses > passes or (part.uses == passes and part.stop_row > row + (inside > 0)):
        return (
            f"{place} takes row {part.stop_row - 1} for the {part.uses + 1}th time, but the "
            f"cursor after it stands at row {row} with {passes} passes"
        )
    end = (docs, tokens) if part.uses < passes else (row + (inside > 0), reached)
    if not plan.shard and (part.stop_row, part.stop_tokens) != end:
        return (
            f"{place} ends before row {part.stop_row} and token {part.stop_tokens}, expected "
            f"{end[0]} and {end[1]}, where its cell or the cursor does"
        )
    return ""


def _overlap(ranges: Sequence[Range]) -> str:
    """Return which two ranges take the same rows at the same use, or an empty text."""
    order = sorted(range(len(ranges)), key=lambda i: _place(ranges[i]))
    for first, second in pairwise(order):
        one, two = ranges[first], ranges[second]
        if _place(one)[:2] == _place(two)[:2] and two.start_row < one.stop_row:
            return f"ranges[{first}] and ranges[{second}] both hold row {two.start_row}"
    return ""


def _place(part: Range) -> tuple[int, int, int]:
    return part.cell, part.uses, part.start_row
