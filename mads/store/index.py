"""The cell index: memories in, cells and their shuffled documents out, in bounded memory.

Rows are never sorted as one: a first pass checks the memories and counts the cells, a second one
throws each document into a bucket (``mads/store/buckets.py``), and the buckets are then sorted
and written one after the other. A killed call goes on from the buckets that it filled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mads.errors import DataError
from mads.files import PARTIAL
from mads.layout import StoreDir
from mads.seeds import derive, mix64
from mads.store.buckets import (
    NOTE_ROWS,
    ORDER_SCHEMA,
    RECORD,
    Buckets,
    Counts,
    assign_buckets,
    bucket_rows,
    sorted_tables,
)
from mads.store.memory import doc_numbers, read_memory
from mads.store.sealed import Seal, read_seal, read_sealed, sealed_writer, write_sealed
from mads.store.spec import StoreSpec
from mads.store.store import read_table
from mads.types import Status

ROW_GROUP = 65_536
MAX_DENSE = 2**20  # combinations of categories that are counted in a plain array


@dataclass(frozen=True, slots=True)
class _ShardRows:
    """The selectable documents of a shard: number, combined category, tokens."""

    doc_N: NDArray[np.uint64]
    code_N: NDArray[np.int64]
    num_tokens_N: NDArray[np.uint32]


def build_index(
    store: StoreDir,
    spec: StoreSpec,
    ram_bytes: int,
    on_progress: Callable[[int], None],
) -> tuple[int, int]:
    """Write cells.parquet and order.parquet; return the numbers of cells and documents.

    ``on_progress`` is told rows as they are handled (each counts twice). Raises DataError when no
    document can be selected, and when a memory was changed or does not belong to the spec.
    """
    radix = np.cumprod([1, *(len(info.categories) for info in spec.agents.values())])
    if float(np.prod([float(len(info.categories)) for info in spec.agents.values()])) >= 2**62:
        raise DataError("the agents have too many categories: their product exceeds 2^62 cells.")
    max_rows = bucket_rows(ram_bytes)
    seals = {name: asdict(seal) for name, seal in shard_seals(store, spec).items()}
    text = json.dumps([spec.to_json(), max_rows, seals], sort_keys=True)
    identity = hashlib.sha256(text.encode()).hexdigest()
    buckets = Buckets(store.order.with_name("buckets" + PARTIAL), identity)
    counts = buckets.counts()
    if counts is None:
        counts = _count_cells(store, spec, radix, on_progress)
        buckets.begin(counts)
    paths = _fill(store, spec, radix, counts, max_rows, buckets, on_progress)
    _write_order(paths, store.order)
    _write_cells(store, spec, radix, counts)
    buckets.remove()
    return len(counts.code_C), int(counts.num_docs_C.sum())


def shard_seals(store: StoreDir, spec: StoreSpec) -> dict[str, Seal]:
    """Return what the footers of all documents' tables and memories say, by path in the store."""
    paths = [store.documents(shard) for shard in range(len(spec.shards))]
    for name in spec.agents:
        paths += [store.memory_shard(name, shard) for shard in range(len(spec.shards))]
    return {str(path.relative_to(store.root)): read_seal(path) for path in paths}


def store_seals(store: StoreDir, spec: StoreSpec) -> dict[str, Seal]:
    """Return what the manifest says of all Parquet files of a store, by path in the store."""
    index = {str(p.relative_to(store.root)): read_seal(p) for p in (store.cells, store.order)}
    return {**shard_seals(store, spec), **index}


def _check_shard(store: StoreDir, spec: StoreSpec, shard: int) -> None:
    """Raise DataError unless all files of a shard are whole and describe its documents."""
    num_rows = spec.shards[shard].num_rows
    path = store.documents(shard)
    documents = read_sealed(path, ["doc", "status"])
    same = documents.num_rows == num_rows
    if not same or (documents["doc"].to_numpy() != doc_numbers(shard, num_rows)).any():
        raise DataError(
            f"{path} does not list the {num_rows} documents of its shard. Delete it and run the "
            "same `mads annotate` again."
        )
    is_ok = ok_rows(documents["status"])
    for name, info in spec.agents.items():
        path = store.memory_shard(name, shard)
        labels = read_memory(path, spec.memory_header(name), shard, num_rows)
        lacking = np.flatnonzero(is_ok & (labels.category_N >= len(info.categories)))
        if len(lacking):
            raise DataError(
                f"{path} has no category for row {lacking[0]}, whose status is ok. "
                f"Agent {name!r} must give every such document one."
            )


def _shard_rows(
    store: StoreDir, spec: StoreSpec, shard: int, radix: NDArray[np.int64]
) -> _ShardRows:
    documents = read_table(store.documents(shard), ["doc", "num_tokens", "status"])
    is_ok = ok_rows(documents["status"])
    code_N = np.zeros(documents.num_rows, np.int64)
    for name, factor in zip(spec.agents, radix, strict=False):
        category = read_table(store.memory_shard(name, shard), ["category"])["category"]
        code_N += category.to_numpy().astype(np.int64) * factor
    columns = documents["doc"].to_numpy(), code_N, documents["num_tokens"].to_numpy()
    return _ShardRows(*(column[is_ok] for column in columns))


def ok_rows(status: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Return which rows have the status ok, by the codes of the column's dictionary."""
    parts = [np.zeros(0, np.bool_)]
    for chunk in status.chunks:
        code = chunk.dictionary.index(Status.OK.value).as_py()
        parts.append(pc.equal(chunk.indices, code).to_numpy(zero_copy_only=False))
    return np.concatenate(parts)


def _count_cells(
    store: StoreDir, spec: StoreSpec, radix: NDArray[np.int64], on_progress: Callable[[int], None]
) -> Counts:
    total = Counts(*(np.zeros(0, np.int64) for _ in range(3)))
    for shard in range(len(spec.shards)):
        _check_shard(store, spec, shard)
        rows = _shard_rows(store, spec, shard, radix)
        total = _merged(total, _tally(rows.code_N, rows.num_tokens_N, int(radix[-1])))
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
    radix: NDArray[np.int64],
    counts: Counts,
    max_rows: int,
    buckets: Buckets,
    on_progress: Callable[[int], None],
) -> list[Path]:
    """Write every document into its bucket; return the buckets in their order."""
    first_C, parts_C = assign_buckets(counts.num_docs_C, max_rows)
    num_buckets = int((first_C + parts_C).max())
    seed = derive(spec.seed, "cell order")
    unnoted = 0
    for shard in range(buckets.go_on(num_buckets), len(spec.shards)):
        rows = _shard_rows(store, spec, shard, radix)
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
    return buckets.paths(num_buckets)


def _write_order(buckets: list[Path], path: Path) -> None:
    """Write the buckets in row groups of equal size, so that the buckets leave no trace."""
    # The order is read in part, so each page has a checksum of its own.
    delta = "DELTA_BINARY_PACKED"  # a third smaller, and as much faster to read
    options = {
        "compression": "lz4",
        "use_dictionary": ["cell"],
        "column_encoding": {"tokens_before": delta, "num_tokens": delta},
        "write_page_checksum": True,
    }
    with sealed_writer(path, ORDER_SCHEMA, **options) as writer:
        rest = ORDER_SCHEMA.empty_table()
        for table in sorted_tables(buckets):
            rest = pa.concat_tables([rest, table])
            del table
            while rest.num_rows >= ROW_GROUP:
                writer.write_table(rest.slice(0, ROW_GROUP).combine_chunks())
                rest = rest.slice(ROW_GROUP)
            rest = rest.combine_chunks()  # lets go of the rows that were written
        if rest.num_rows:
            writer.write_table(rest)


def _write_cells(
    store: StoreDir, spec: StoreSpec, radix: NDArray[np.int64], counts: Counts
) -> None:
    code_C = counts.code_C
    columns: dict[str, pa.Array] = {"cell": pa.array(np.arange(len(code_C)), pa.uint32())}
    for (name, info), factor in zip(spec.agents.items(), radix, strict=False):
        columns[name] = pa.array(code_C // factor % len(info.categories), pa.uint16())
    first_row_C = np.cumsum(counts.num_docs_C) - counts.num_docs_C
    columns["num_docs"] = pa.array(counts.num_docs_C, pa.uint64())
    columns["num_tokens"] = pa.array(counts.num_tokens_C, pa.uint64())
    columns["first_row"] = pa.array(first_row_C, pa.uint64())
    names = {name: info.categories for name, info in spec.agents.items()}
    write_sealed(store.cells, pa.table(columns), {"categories": names})
