"""The cell index: memories in, cells and their shuffled documents out, in bounded RAM.

Rows are never sorted as one: a first pass checks the memories and counts the cells, a second one
throws each document into a bucket (``mads/index/buckets.py``), and the buckets are then sorted
and written one after the other. A killed call goes on from the buckets that it filled,
once they were compared with what it noted of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mads.codec import to_json
from mads.errors import DataError
from mads.files import write_sealed_json
from mads.index.buckets import (
    NOTE_ROWS,
    RECORD,
    Bucket,
    Buckets,
    Counts,
    assign_buckets,
    bucket_rows,
)
from mads.index.cells import write_cells
from mads.index.order import write_order
from mads.layout import IndexDir, StoreDir
from mads.sealed import Seal, check_seal, read_seal, read_sealed
from mads.seeds import derive, mix64
from mads.store.documents import read_documents, read_documents_header, selectable
from mads.store.memory import doc_numbers, read_memory
from mads.store.spec import StoreSpec

MAX_DENSE = 2**20  # combinations of categories that are counted in a plain array


@dataclass(frozen=True, slots=True, eq=False)
class PriorUses:
    """How often each document was selected before: the numbers that occur, and which of them.

    ``place_R`` has a place in ``values`` for each row of all shards, one shard after the other; it
    is not looked at where there is one value alone.
    """

    values: tuple[int, ...]
    place_R: NDArray[np.uint16]

    @property
    def sha256(self) -> str:
        """What they are known by."""
        return hashlib.sha256(json.dumps(self.values).encode() + self.place_R.tobytes()).hexdigest()


NEVER_USED = PriorUses((0,), np.zeros(0, np.uint16))


@dataclass(frozen=True, slots=True, eq=False)
class _Codes:
    """How a document's categories and prior uses become one number, the code of its cell."""

    radix: NDArray[np.int64]  # of each agent, of the uses, and the number of codes
    uses: PriorUses
    first_row: NDArray[np.int64]  # of each shard in ``uses``

    @staticmethod
    def of(spec: StoreSpec, uses: PriorUses) -> _Codes:
        """Raise DataError for more codes than a number can hold."""
        sizes = [*(len(info.categories) for info in spec.agents.values()), len(uses.values)]
        if float(np.prod([float(size) for size in sizes])) >= 2**62:
            raise DataError(
                "the agents have too many categories: their product exceeds 2^62 cells."
            )
        rows = np.cumsum([0, *(shard.num_rows for shard in spec.shards)])
        return _Codes(np.cumprod([1, *sizes]), uses, rows)

    def of_uses(self, shard: int) -> NDArray[np.int64]:
        """Return what the prior uses of a shard's rows add to their codes."""
        first, end = self.first_row[shard : shard + 2].tolist()
        if len(self.uses.values) == 1:
            return np.zeros(end - first, np.int64)
        place_N = self.uses.place_R[first:end]
        code_N: NDArray[np.int64] = place_N.astype(np.int64) * self.radix[-2]
        return code_N


@dataclass(frozen=True, slots=True)
class _ShardRows:
    """The selectable documents of a shard: number, combined category, tokens."""

    doc_N: NDArray[np.uint64]
    code_N: NDArray[np.int64]
    num_tokens_N: NDArray[np.uint32]


def build_index(
    store: StoreDir,
    spec: StoreSpec,
    index: IndexDir,
    ram_bytes: int,
    on_progress: Callable[[int], None],
    seals: Mapping[str, Seal] | None = None,
    uses: PriorUses | None = None,
) -> tuple[int, int]:
    """Write a generation's index; return the numbers of cells and documents.

    ``on_progress`` is told rows as they are handled (each counts twice). ``seals`` are those of
    an earlier generation's files, as far as they are part of this one; cells are split by ``uses``.
    Raises DataError when no document can be selected, and when a memory was changed or does not
    belong to the spec.
    """
    uses = uses or NEVER_USED
    codes = _Codes.of(spec, uses)
    max_rows = bucket_rows(ram_bytes)
    found = content_seals(store, spec)
    text = json.dumps([to_json(spec), max_rows, to_json(found), uses.sha256], sort_keys=True)
    identity = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    buckets = Buckets(index.buckets, identity)
    counts = buckets.counts()
    if counts is None:
        counts = _count_cells(store, spec, codes, seals or {}, on_progress)
        buckets.begin(counts)
    filled = _fill(store, spec, codes, counts, max_rows, buckets, on_progress)
    write_order(filled, index)
    _write_cells(index.cells, spec, codes, counts)
    write_sealed_json(index.content, to_json(found))
    buckets.remove()
    return len(counts.code_C), int(counts.num_docs_C.sum())


def content_seals(store: StoreDir, spec: StoreSpec) -> dict[str, Seal]:
    """Return the seals of all files that a generation is made from, by path in the store.

    The tokens themselves are known by their checksums.
    """
    shards = range(len(spec.shards))
    paths = [store.documents(shard) for shard in shards]
    paths += [store.tokens_sum(shard) for shard in shards]
    for info in spec.agents.values():
        paths += [store.memory_shard(info.folder, shard) for shard in shards]
    paths += sorted(path for path in store.tokenizer.rglob("*") if path.is_file())
    return {store.name_of(path): read_seal(path) for path in paths}


def index_seals(store: StoreDir, index: IndexDir) -> dict[str, Seal]:
    """Return the seals of a generation's own files."""
    return {store.name_of(path): read_seal(path) for path in index.own_files}


def _check_shard(store: StoreDir, spec: StoreSpec, shard: int, seals: Mapping[str, Seal]) -> None:
    """Raise DataError unless all files of a shard are whole and describe its documents."""
    num_rows = spec.shards[shard].num_rows
    path = store.documents(shard)
    documents = read_documents(path, shard, num_rows, seals.get(store.name_of(path)))
    sums = store.tokens_sum(shard)
    check_seal(sums, read_documents_header(path).token_sums)
    for name, info in spec.agents.items():
        path = store.memory_shard(info.folder, shard)
        header, seal = spec.memory_header(name, shard), seals.get(store.name_of(path))
        labels = read_memory(path, header, shard, num_rows, seal)
        lacking = np.flatnonzero(documents.is_ok() & (labels.category_N >= len(info.categories)))
        if len(lacking):
            raise DataError(
                f"{path} has no category for row {lacking[0]}, whose status is ok. "
                f"Agent {name!r} must give every such document one."
            )


def _shard_rows(store: StoreDir, spec: StoreSpec, shard: int, codes: _Codes) -> _ShardRows:
    num_rows = spec.shards[shard].num_rows
    is_ok, num_tokens_N = selectable(store.documents(shard))
    code_N = codes.of_uses(shard)
    for info, factor in zip(spec.agents.values(), codes.radix, strict=False):
        path = store.memory_shard(info.folder, shard)
        category = read_sealed(path, ["category"])["category"]
        code_N += category.to_numpy().astype(np.int64) * factor
    doc_N = doc_numbers(shard, num_rows)
    return _ShardRows(doc_N[is_ok], code_N[is_ok], num_tokens_N[is_ok])


def _count_cells(
    store: StoreDir,
    spec: StoreSpec,
    codes: _Codes,
    seals: Mapping[str, Seal],
    on_progress: Callable[[int], None],
) -> Counts:
    total = Counts(*(np.zeros(0, np.int64) for _ in range(3)))
    for shard in range(len(spec.shards)):
        _check_shard(store, spec, shard, seals)
        rows = _shard_rows(store, spec, shard, codes)
        total = _merged(total, _tally(rows.code_N, rows.num_tokens_N, int(codes.radix[-1])))
        on_progress(spec.shards[shard].num_rows)
    if not len(total.code_C):
        raise DataError(
            f"{store.root}: no document of this corpus can be selected; all are empty, too "
            "long or undecodable. Is corpus.text_field right?"
        )
    return total


def _tally(code_N: NDArray[np.int64], tokens_N: NDArray[np.uint32], num_codes: int) -> Counts:
    """Count the documents and tokens of each combined category that occurs."""
    if num_codes <= MAX_DENSE:
        docs = np.bincount(code_N, minlength=num_codes)
        code_C, place_N = np.flatnonzero(docs), code_N
    else:
        code_C, place_N = np.unique(code_N, return_inverse=True)
        docs = np.bincount(place_N)
    tokens = np.bincount(place_N, tokens_N, len(docs)).astype(np.int64)
    if num_codes <= MAX_DENSE:
        docs, tokens = docs[code_C], tokens[code_C]
    return Counts(code_C, docs, tokens)


def _merged(a: Counts, b: Counts) -> Counts:
    """Add the counts of two sets of documents."""
    code_C, place = np.unique(np.concatenate((a.code_C, b.code_C)), return_inverse=True)
    columns = []
    for name in ("num_docs_C", "num_tokens_C"):
        sums = np.zeros(len(code_C), np.int64)
        np.add.at(sums, place, np.concatenate((getattr(a, name), getattr(b, name))))
        columns.append(sums)
    return Counts(code_C, *columns)


def _fill(
    store: StoreDir,
    spec: StoreSpec,
    codes: _Codes,
    counts: Counts,
    max_rows: int,
    buckets: Buckets,
    on_progress: Callable[[int], None],
) -> list[Bucket]:
    """Write every document into its bucket; return the buckets in their order."""
    first_C, parts_C = assign_buckets(counts.num_docs_C, max_rows)
    num_buckets = int((first_C + parts_C).max())
    seed = derive(spec.seed, "cell order")
    unnoted = 0
    for shard in range(buckets.go_on(num_buckets), len(spec.shards)):
        rows = _shard_rows(store, spec, shard, codes)
        record_N = np.empty(len(rows.doc_N), RECORD)
        record_N["cell"] = cell_N = np.searchsorted(counts.code_C, rows.code_N)
        record_N["num_tokens"] = rows.num_tokens_N
        record_N["doc"] = rows.doc_N
        record_N["key"] = key_N = mix64(rows.doc_N, seed)
        part_N = (key_N >> np.uint64(32)).astype(np.int64) * parts_C[cell_N] >> 32
        buckets.add(first_C[cell_N] + part_N, record_N, num_buckets)
        unnoted += spec.shards[shard].num_rows
        if unnoted >= NOTE_ROWS or shard + 1 == len(spec.shards):
            buckets.note(shard + 1, num_buckets)
            unnoted = 0
        on_progress(spec.shards[shard].num_rows)
    return buckets.filled(num_buckets)


def _write_cells(path: Path, spec: StoreSpec, codes: _Codes, counts: Counts) -> None:
    category_CA = np.zeros((len(counts.code_C), len(spec.agents)), np.uint16)
    for i, (info, factor) in enumerate(zip(spec.agents.values(), codes.radix, strict=False)):
        category_CA[:, i] = counts.code_C // factor % len(info.categories)
    uses_C = np.array(codes.uses.values, np.int64)[counts.code_C // codes.radix[-2]]
    sizes = counts.num_docs_C, counts.num_tokens_C
    write_cells(path, spec.categories, category_CA, *sizes, uses_C)
