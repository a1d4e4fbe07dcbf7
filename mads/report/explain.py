"""Why a document was selected or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mads.errors import DataError, UsageError, did_you_mean
from mads.run.reader import Run, RunRound
from mads.selection.plan_file import SavedPlan, read_selection
from mads.store.store import Store
from mads.strategies.strategy import Strategy
from mads.types import ROW_BITS, Status
from mads.units import parse_digits, shorten


@dataclass(frozen=True, slots=True)
class DocumentLabel:
    """What an agent says of a document."""

    category: str
    score: float


@dataclass(frozen=True, slots=True)
class RoundOfDocument:
    """How a document stood in one round: its categories' weights, and its cell's score and rank.

    ``score`` is that of a document that was never selected; ``uses`` says how often the document
    was selected before the cells of the round were made (0 but for cells of the run's own);
    ``selected`` counts how often the round took it or parts of it, ``tokens`` how many of its
    tokens, and ``steps`` are the optimizer steps from which on.
    """

    round: int
    theta: Mapping[str, float]
    weights: Mapping[str, float]
    score: float
    rank: int
    cells: int
    uses: int
    selected: int
    tokens: int
    steps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that a store and a run know of a document; a document without labels has no cell."""

    doc: int
    file: str
    row: int
    status: str
    num_tokens: int
    num_bytes: int
    labels: Mapping[str, DocumentLabel] = field(default_factory=dict)
    rounds: tuple[RoundOfDocument, ...] = ()
    cell: int | None = None
    cell_docs: int = 0
    place_in_cell: int = 0
    docs_before_it: int = 0  # that the next selections from its cell take first
    cell_docs_last_round: int = 0  # that the last round took of its cell
    id: str | None = None  # the user's own


def find_document(store: Store, text: str) -> int:
    """Return the number of a document given as a number or as ``file:row`` (rows from 0).

    Raises UsageError when there is no such document, or when the file's name is ambiguous.
    """
    shards = store.spec.shards
    doc = parse_digits(text)
    if doc is not None:
        shard, row = doc >> ROW_BITS, doc & ((1 << ROW_BITS) - 1)
        if shard >= len(shards) or row >= shards[shard].num_rows:
            every = store.manifest.spec.shards
            if shard < len(every) and row < every[shard].num_rows:
                raise _is_later(store, f"document {text}")
            raise UsageError(f"the store has no document {text}; give file:row, say.")
        return doc
    name, colon, number = text.rpartition(":")
    row_of_file = parse_digits(number)
    if not colon or row_of_file is None:
        raise UsageError(f"{shorten(text)} is neither a document's number nor file:row.")
    files = _files_named(store, name)
    if len(files) != 1:
        known = [Path(f.path).name for f in store.spec.files]
        what = did_you_mean(name, known) if not files else f"{len(files)} files end so"
        raise UsageError(f"{shorten(name)} does not name one corpus file of this store; {what}")
    found = store.document_at(files[0], row_of_file)
    if found is None:
        rows = store.spec.files[files[0]].num_rows
        segments = [segment for shard in shards for segment in shard.segments]
        if row_of_file < rows and all(segment.file != files[0] for segment in segments):
            raise _is_later(store, name)
        raise UsageError(f"{name} has {rows} rows (0 to {rows - 1}); found row {row_of_file}.")
    return found


def _files_named(store: Store, name: str) -> list[int]:
    """Return the files whose path is ``name`` or else ends so, those of the generation first."""
    paths = [f.path for f in store.spec.files]
    if name in paths:
        return [paths.index(name)]
    ending = [i for i, path in enumerate(paths) if ("/" + path).endswith("/" + name)]
    segments = [segment for shard in store.spec.shards for segment in shard.segments]
    ours = {segment.file for segment in segments}
    return [i for i in ending if i in ours] or ending


def _is_later(store: Store, what: str) -> UsageError:
    """Return the error for what a store has gained after the generation of a run."""
    return UsageError(
        f"{what} came to the store with a later generation; the run has seen generation "
        f"{store.generation} only. Give a document of that one, or a run that was begun later."
    )


def explain(store: Store, run: Path, doc: int) -> Explanation:
    """Return all that the store and the run know of a document.

    Raises DataError when a file of the two is missing or damaged, or the run is of another store.
    """
    shard, row = doc >> ROW_BITS, doc & ((1 << ROW_BITS) - 1)
    documents = store.documents(shard)
    file_N, row_N = store.locate(np.array([doc], np.uint64))
    found = Explanation(
        doc=doc,
        file=store.spec.files[int(file_N[0])].path,
        row=int(row_N[0]),
        status=documents.status(row).value,
        num_tokens=int(documents.num_tokens_N[row]),
        num_bytes=int(documents.num_bytes_N[row]),
        id=documents.ids[row] if documents.ids is not None else None,
    )
    if found.status != Status.OK.value:
        return found
    rounds = list(_rounds(store, run))
    places: dict[int, Place] = {}
    for one in rounds:  # rounds of one generation share it
        if one.store.refresh not in places:
            places[one.store.refresh] = _locate(one.store, doc)
    last = rounds[-1]
    here = places[last.store.refresh]
    cell_docs = int(last.store.cells.num_docs_C[here.cell])
    return replace(
        found,
        labels=here.labels,
        rounds=tuple(_in_round(one, places[one.store.refresh], doc) for one in rounds),
        cell=here.cell,
        cell_docs=cell_docs,
        place_in_cell=here.row,
        docs_before_it=(here.row - int(last.plan.cursors_after.row_C[here.cell])) % cell_docs,
        cell_docs_last_round=sum(
            part.num_docs for part in last.plan.ranges if part.cell == here.cell
        ),
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a generation has a document: its labels, its cell, and its row in the cell's order."""

    labels: Mapping[str, DocumentLabel]
    cell: int
    row: int


def _labels(store: Store, shard: int, row: int) -> dict[str, DocumentLabel]:
    labels = {}
    for agent, info in store.spec.agents.items():
        memory = store.memory(agent, shard)
        category = info.categories[int(memory.category_N[row])]
        labels[agent] = DocumentLabel(category, float(memory.score_N[row]))
    return labels


def _locate(store: Store, doc: int) -> Place:
    """Return where a generation has a document; cells of equal labels differ by prior uses."""
    cells = store.cells
    labels = _labels(store, doc >> ROW_BITS, doc & ((1 << ROW_BITS) - 1))
    wanted = [cells.categories[agent].index(labels[agent].category) for agent in cells.agents]
    for cell in np.flatnonzero((cells.category_CA == np.array(wanted)).all(axis=1)).tolist():
        first = int(cells.first_row_C[cell])
        rows = np.arange(first, first + int(cells.num_docs_C[cell]))
        found = np.flatnonzero(store.order.docs(rows) == np.uint64(doc))
        if len(found):
            return Place(labels, cell, int(found[0]))
    raise DataError(
        f"{store.index.order} has no document {doc}, which its labels call for. "
        f"{store.remedy(store.index.order)}"
    )


@dataclass(frozen=True, slots=True)
class _Round:
    """A round with its generation, its strategy, its plan and the scores that the plan follows."""

    files: RunRound
    store: Store
    strategy: Strategy
    plan: SavedPlan
    score_C: NDArray[np.float64]


def _rounds(store: Store, run: Path) -> Iterator[_Round]:
    """Yield the rounds of a run; raises DataError when it has none."""
    opened = Run(run)
    opened.last_round()
    for one in opened.rounds:
        strategy, store = one.strategy, one.store(store)
        yield _Round(one, store, strategy, one.plan(store), strategy.scores(store.cells))


def _in_round(found: _Round, here: Place, doc: int) -> RoundOfDocument:
    cell = here.cell
    times = sum(
        part.cell == cell and part.start_row <= here.row < part.stop_row
        for part in found.plan.ranges
    )
    tokens, steps = _read(found, doc) if times else (0, ())
    score_C, weights = found.score_C, found.strategy.weights
    return RoundOfDocument(
        round=found.files.number,
        theta=dict(found.strategy.theta),
        weights={
            agent: weights[agent][label.category]
            for agent, label in here.labels.items()
            if agent in weights
        },
        score=float(score_C[cell]),
        rank=int((score_C > score_C[cell]).sum()) + 1,
        cells=len(score_C),
        uses=int(found.store.cells.prior_uses[cell]),
        selected=times,
        tokens=tokens,
        steps=steps,
    )


def _read(found: _Round, doc: int) -> tuple[int, tuple[int, ...]]:
    """Return how many tokens of a document a round selects, and the steps from which on."""
    table = read_selection(found.files.dir, found.plan, ["doc", "num_tokens", "step"])
    mine = table["doc"].to_numpy() == np.uint64(doc)
    tokens, steps = (table[name].to_numpy()[mine] for name in ("num_tokens", "step"))
    return int(tokens.sum()), tuple(np.unique(steps).tolist())
