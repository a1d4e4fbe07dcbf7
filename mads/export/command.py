"""One selection by hand: ``mads select``, and ``mads part`` of it for one of several machines.

Both write a folder that appears as a whole. The plan in it keeps what was asked for, so the same
call again finds it complete, and another one is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mads.codec import to_json
from mads.config import Recipe, SelectionConfig
from mads.corpus.places import Place
from mads.errors import DataError, UsageError
from mads.export.megatron import TOKENS, write_tokens
from mads.export.parts import find_part
from mads.export.texts import write_texts
from mads.files import fresh_folder, json_sha256
from mads.layout import RoundDir, refuse_inside
from mads.sealed import write_sealed
from mads.seeds import derive
from mads.selection.composition import Shares, composition
from mads.selection.plan import Cursors, Plan, make_plan
from mads.selection.plan_file import (
    Chosen,
    Head,
    SavedPlan,
    SavedRequest,
    load_plan,
    read_plan,
    read_selection,
    seals_of,
    with_ids,
    write_plan,
    write_selection,
)
from mads.selection.query import OrderReader
from mads.store.store import Store
from mads.types import Cells
from mads.units import Budget, parse_part

TEXTS = "texts"


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """What a selection goes on from: a strategy's scores and state, and the cursors before it."""

    score_C: NDArray[np.float64]
    state: Mapping[str, Any]  # console.json, with its round
    cursors: Cursors


@dataclass(frozen=True, slots=True)
class Request:
    """What to select, of any store."""

    followed: Followed
    budget: Budget
    recipe: Recipe

    def plan(self, cells: Cells) -> Plan:
        """Return the plan over a store's cells."""
        config, budget = self.recipe.selection, self.budget
        follow, seed = self.followed, self.seed
        return make_plan(
            *(cells, follow.score_C, follow.cursors, budget.amount), config, seed, budget.unit
        )

    @property
    def seed(self) -> int:
        """The seed of this selection."""
        return derive(self.recipe.seed, "select", self.followed.state["round"])


@dataclass(frozen=True, slots=True)
class Exports:
    """What to write beside plan.json and selection.parquet."""

    texts: Place | None  # the corpus's folder, below which its files are read
    megatron: bool
    on_progress: Callable[[int, int], None]

    def write(self, store: Store, doc_N: NDArray[np.uint64], out: Path, seed: int) -> None:
        """Write the texts and the tokens of documents, where asked for."""
        if self.texts is not None:
            write_texts(store, doc_N, self.texts, out / TEXTS, self.on_progress)
        if self.megatron:
            write_tokens(store, doc_N, out, seed)

    def missing(self, out: Path) -> list[str]:
        """Return what a complete folder lacks."""
        wanted = [TEXTS] if self.texts is not None else []
        wanted += TOKENS if self.megatron else ()
        return [name for name in wanted if not (out / name).exists()]


@dataclass(frozen=True, slots=True)
class Selected:
    """What ``mads select`` wrote, or found: the budget and what is missing, in its unit."""

    out: str
    complete: bool  # it was there already
    num_docs: int
    num_tokens: int
    budget_tokens: int | None
    budget_docs: int | None
    shortfall_tokens: int | None
    shortfall_docs: int | None
    composition: Shares


@dataclass(frozen=True, slots=True)
class PartWritten:
    """What ``mads part`` wrote, or found."""

    out: str
    complete: bool  # it was there already
    shard: str
    num_docs: int
    num_tokens: int


def select_and_write(store: Store, request: Request, out: Path, exports: Exports) -> Selected:
    """Select into a folder that appears as a whole; return what is in it.

    Raises UsageError when ``out`` holds anything but the same selection, DataError when another
    process writes it.
    """
    config = request.recipe.selection
    asked = _asked(store, request, exports)
    refuse_inside(out)
    with fresh_folder(out) as folder:
        if folder is None:
            return _selected(_complete(store, out, asked, exports), store, out, complete=True)
        with OrderReader.of(store, config) as order:
            selection = order.select(request.plan(store.cells))
        exports.write(store, selection.doc_N, folder, asked.seed)
        head = Head(asked.seed, config.policy, request.budget, asked)
        saved = write_selection(
            RoundDir(folder), store, request.followed.state, [Chosen(selection)], head
        )
    return _selected(saved, store, out, complete=False)


def plan_generation(plan_file: Path) -> int:
    """Return the generation of the store that a plan was made from.

    Raises UsageError when there is no such file, or when it follows a generation of a run's own,
    DataError when it is not a plan.
    """
    if not plan_file.is_file():
        what = "is a folder" if plan_file.is_dir() else "does not exist"
        raise UsageError(f"plan {plan_file} {what}. `mads select --out` writes plan.json.")
    plan = load_plan(plan_file)
    if plan.refresh:
        raise UsageError(
            f"plan {plan_file} follows cells that its run has made for itself (influence.every), "
            "which the store does not have, so it cannot be cut from the plan alone. Select with "
            "--texts or --megatron, and share out the files."
        )
    return plan.generation


def write_part(
    store: Store, plan_file: Path, text: str, out: Path, exports: Exports
) -> PartWritten:
    """Write part ``i/n`` of a selection, from its plan, into a folder that appears as a whole.

    Raises UsageError when ``out`` holds anything but the same part, DataError when the plan is of
    another store, or another process writes ``out``.
    """
    index, count = parse_part(text)
    plan = read_plan(plan_file, store)
    asked = SavedRequest(
        store=store.fingerprint,
        generation=store.generation,
        follows=json_sha256(to_json(plan)),
        budget=str(plan.budget),
        policy=plan.policy,
        settings="",
        seed=derive(plan.seed, text),
        shard=text,
        texts=exports.texts is not None,
        megatron=exports.megatron,
    )
    refuse_inside(out)
    with fresh_folder(out) as folder:
        if folder is None:
            found = _complete(store, out, asked, exports)
            return PartWritten(str(out), True, text, found.num_docs, found.num_tokens)
        part = find_part(store, plan.ranges, index, count)
        docs = part.documents["doc"].to_numpy()
        exports.write(store, docs, folder, asked.seed)
        files = RoundDir(folder)
        write_sealed(files.selection, with_ids(store, part.documents), compression="zstd")
        own = replace(
            plan,
            num_docs=len(docs),
            num_tokens=part.num_tokens,
            ranges=tuple(part.ranges),
            files=seals_of(files),
            request=asked,
            shard=text,
        )
        write_plan(files.plan, own)
    return PartWritten(str(out), False, text, len(docs), part.num_tokens)


def _asked(store: Store, request: Request, exports: Exports) -> SavedRequest:
    """Return what is asked for, as the plan keeps it: all that the result depends on."""
    config = request.recipe.selection
    plain = SelectionConfig()
    settings = replace(
        config, ram=plain.ram, threads=plain.threads, select_every=plain.select_every
    )
    return SavedRequest(
        store=store.fingerprint,
        generation=store.generation,
        follows=json_sha256([request.followed.state, to_json(request.followed.cursors)]),
        budget=str(request.budget),
        policy=config.policy,
        settings=json_sha256(to_json(settings)),
        seed=request.seed,
        shard="",
        texts=exports.texts is not None,
        megatron=exports.megatron,
    )


def _complete(store: Store, out: Path, asked: SavedRequest, exports: Exports) -> SavedPlan:
    """Return the plan of a folder that holds just what is asked for.

    Raises UsageError when it holds something else, DataError when a part of it is gone.
    """
    folder = RoundDir(out)
    try:
        plan = load_plan(folder.plan)
    except DataError as error:
        raise UsageError(f"{out} is not empty. Give another --out.") from error
    if plan.request is None:
        raise UsageError(f"{out} is a round of a run. Give another --out.")
    if changed := plan.request.differences(asked):
        raise UsageError(
            f"{out} holds another selection ({'; '.join(changed)}). Give another --out."
        )
    plan = read_plan(folder.plan, store)
    read_selection(folder, plan, [])
    if lost := exports.missing(out):
        raise DataError(f"{out} is complete but lacks {', '.join(lost)}. Give another --out.")
    return plan


def _selected(plan: SavedPlan, store: Store, out: Path, *, complete: bool) -> Selected:
    cells, budget = store.cells, plan.budget
    picked_C = plan.tokens_by_cell(len(cells))
    in_docs = budget.unit == "docs"
    short = max(0, budget.amount - (plan.num_docs if in_docs else plan.num_tokens))
    return Selected(
        out=str(out),
        complete=complete,
        num_docs=plan.num_docs,
        num_tokens=plan.num_tokens,
        budget_tokens=None if in_docs else budget.amount,
        budget_docs=budget.amount if in_docs else None,
        shortfall_tokens=None if in_docs else short,
        shortfall_docs=short if in_docs else None,
        composition=composition(cells, cells.num_tokens_C, picked_C),
    )
