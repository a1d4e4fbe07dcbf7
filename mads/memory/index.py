"""The cell index: memories in, cells and their shuffled documents out, in bounded memory.

Rows are never sorted as one: a first pass counts the cells, a second one throws each document
into a bucket (a range of cells, or a range of one large cell's shuffle keys) small enough to be
sorted in memory, and the buckets are then sorted and written one after the other. A killed call
whose buckets were filled goes on from them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mads.errors import DataError
from mads.memory.agent_memory import METADATA_KEY, MemoryHeader, check_header
from mads.memory.store import Draft, read_table
from mads.run_dir import PARTIAL, StoreDir, atomic_path, read_json, write_json
from mads.seeds import derive, mix64
from mads.types import Status

ROW_GROUP = 65_536
# An upper estimate for one row while its bucket is sorted: record, keys, result and copies.
BYTES_PER_ROW = 120
FILLED = "filled.json"  # in the folder of buckets: all documents are in theirs
COUNTS = ("codes", "num_docs", "num_tokens")
Counts = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
RECORD = np.dtype([("cell", "<u4"), ("num_tokens", "<u4"), ("key", "<u8"), ("doc", "<u8")])
ORDER_SCHEMA = pa.schema(
    [
        pa.field("doc", pa.uint64(), nullable=False),
        pa.field("cell", pa.uint32(), nullable=False),
        pa.field("num_tokens", pa.uint32(), nullable=False),
        pa.field("tokens_before", pa.uint64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class _ShardRows:
    """The selectable documents of a shard: number, combined category, tokens."""

    doc_N: NDArray[np.uint64]
    code_N: NDArray[np.int64]
    num_tokens_N: NDArray[np.uint32]


def build_index(
    store: StoreDir,
    draft: Draft,
    memory_bytes: int,
    on_progress: Callable[[int], None],
) -> tuple[int, int]:
    """Write cells.parquet and order.parquet; return the numbers of cells and documents.

    ``on_progress`` is told rows as they are handled (each counts twice). Raises DataError when no
    document can be selected or a memory does not belong to the draft.
    """
    radix = np.cumprod([1, *(len(info.categories) for info in draft.agents.values())])
    if float(np.prod([float(len(info.categories)) for info in draft.agents.values()])) >= 2**62:
        raise DataError("the agents have too many categories: their product exceeds 2^62 cells.")
    max_rows = max(memory_bytes // BYTES_PER_ROW, 1024)
    folder = store.order.with_name("buckets" + PARTIAL)
    text = json.dumps([draft.to_json(), max_rows], sort_keys=True)
    identity = hashlib.sha256(text.encode()).hexdigest()
    counts = _filled_before(folder, identity)
    if counts is None:
        counts = _count_cells(store, draft, radix, on_progress)
        if not len(counts[0]):
            raise DataError(
                f"{store.root}: no document of this corpus can be selected; all are empty, too "
                "long or undecodable. Is corpus.text_field right?"
            )
        _fill_buckets(store, draft, radix, counts[0], counts[1], max_rows, folder, on_progress)
        columns = {name: values.tolist() for name, values in zip(COUNTS, counts, strict=True)}
        write_json(folder / FILLED, {"identity": identity, **columns})
    codes, num_docs, num_tokens = counts
    with atomic_path(store.order) as partial:
        _write_order(sorted(path for path in folder.iterdir() if path.name.isdigit()), partial)
    first_row = np.concatenate(([0], np.cumsum(num_docs)[:-1]))
    _write_cells(store, draft, radix, codes, (num_docs, num_tokens, first_row))
    shutil.rmtree(folder)
    return len(codes), int(num_docs.sum())


def _filled_before(folder: Path, identity: str) -> Counts | None:
    """Return the counts of a killed call whose buckets are all filled, from the same memories."""
    if not (folder / FILLED).is_file():
        return None
    saved = read_json(folder / FILLED)
    if saved.get("identity") != identity:
        return None
    codes, docs, tokens = (np.array(saved[name], np.int64) for name in COUNTS)
    return codes, docs, tokens


def _shard_rows(store: StoreDir, draft: Draft, shard: int, radix: NDArray[np.int64]) -> _ShardRows:
    documents = read_table(store.documents(shard), ["doc", "num_tokens", "status"])
    keep = pc.equal(documents["status"].cast(pa.string()), Status.OK.value).to_numpy()
    code = np.zeros(documents.num_rows, np.int64)
    for (name, info), factor in zip(draft.agents.items(), radix, strict=False):
        path = store.memory_shard(name, shard)
        header = MemoryHeader(name, info.categories, info.fingerprint, draft.corpus["fingerprint"])
        check_header(path, header)
        category = read_table(path, ["category"])["category"].to_numpy()
        if len(category) != documents.num_rows:
            raise DataError(
                f"{path} has {len(category)} rows, expected {documents.num_rows}. "
                "Delete it and run `mads annotate` again."
            )
        lacking = np.flatnonzero(keep & (category >= len(info.categories)))
        if len(lacking):
            raise DataError(
                f"{path} has no category for row {lacking[0]}, whose status is ok. "
                f"Agent {name!r} must give every such document one."
            )
        code += category.astype(np.int64) * factor
    return _ShardRows(
        documents["doc"].to_numpy()[keep],
        code[keep],
        documents["num_tokens"].to_numpy()[keep],
    )


def _count_cells(
    store: StoreDir, draft: Draft, radix: NDArray[np.int64], on_progress: Callable[[int], None]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return each cell's combined category (ascending), documents and tokens."""
    totals: dict[int, list[int]] = {}
    for shard in range(len(draft.shards)):
        rows = _shard_rows(store, draft, shard, radix)
        codes, inverse, counts = np.unique(rows.code_N, return_inverse=True, return_counts=True)
        tokens = np.bincount(inverse, rows.num_tokens_N, len(codes)).astype(np.int64)
        for code, docs, size in zip(codes.tolist(), counts.tolist(), tokens.tolist(), strict=True):
            total = totals.setdefault(code, [0, 0])
            total[0] += docs
            total[1] += size
        on_progress(draft.shards[shard].num_rows)
    codes = np.array(sorted(totals), np.int64)
    table = np.array([totals[code] for code in codes.tolist()], np.int64).reshape(-1, 2)
    return codes, table[:, 0], table[:, 1]


def _fill_buckets(
    store: StoreDir,
    draft: Draft,
    radix: NDArray[np.int64],
    codes: NDArray[np.int64],
    num_docs: NDArray[np.int64],
    max_rows: int,
    folder: Path,
    on_progress: Callable[[int], None],
) -> None:
    """Write every document into its bucket; the buckets' names stand in their order."""
    first_bucket, parts = _assign_buckets(num_docs, max_rows)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    paths = [folder / f"{i:06d}" for i in range(int((first_bucket + parts).max()))]
    seed = derive(draft.seed, "cell order")
    for shard in range(len(draft.shards)):
        rows = _shard_rows(store, draft, shard, radix)
        records = np.empty(len(rows.doc_N), RECORD)
        records["cell"] = np.searchsorted(codes, rows.code_N)
        records["num_tokens"] = rows.num_tokens_N
        records["doc"] = rows.doc_N
        records["key"] = key = mix64(rows.doc_N, seed)
        part = (key >> np.uint64(32)).astype(np.int64) * parts[records["cell"]] >> 32
        bucket = first_bucket[records["cell"]] + part
        grouped = np.argsort(bucket, kind="stable")
        bounds = np.searchsorted(bucket[grouped], np.arange(len(paths) + 1))
        for i, path in enumerate(paths):
            if bounds[i] < bounds[i + 1]:
                with path.open("ab") as handle:
                    records[grouped[bounds[i] : bounds[i + 1]]].tofile(handle)
        on_progress(draft.shards[shard].num_rows)


def _assign_buckets(
    num_docs: NDArray[np.int64], max_rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each cell's first bucket and the number of buckets that it is spread over."""
    first = np.zeros(len(num_docs), np.int64)
    parts = np.ones(len(num_docs), np.int64)
    bucket = filled = 0
    for cell, docs in enumerate(num_docs.tolist()):
        if docs > max_rows:
            bucket += filled > 0
            # Keys are uniform; a tenth of room keeps a part below max_rows.
            first[cell], parts[cell] = bucket, -(-docs * 11 // (max_rows * 10))
            bucket, filled = bucket + int(parts[cell]), 0
            continue
        if filled + docs > max_rows:
            bucket, filled = bucket + 1, 0
        first[cell] = bucket
        filled += docs
    return first, parts


def _write_order(buckets: list[Path], path: Path) -> None:
    """Write the buckets in row groups of equal size, so that the buckets leave no trace."""
    with pq.ParquetWriter(path, ORDER_SCHEMA, compression="lz4", use_dictionary=["cell"]) as writer:
        rest = ORDER_SCHEMA.empty_table()
        for table in _sorted_buckets(buckets):
            rest = pa.concat_tables([rest, table])
            whole = rest.num_rows - rest.num_rows % ROW_GROUP
            if whole:
                writer.write_table(rest.slice(0, whole).combine_chunks(), row_group_size=ROW_GROUP)
                rest = rest.slice(whole)
        if rest.num_rows:
            writer.write_table(rest.combine_chunks(), row_group_size=ROW_GROUP)


def _sorted_buckets(buckets: list[Path]) -> Iterator[pa.Table]:
    last_cell, carry = -1, 0
    for path in buckets:
        records = np.fromfile(path, RECORD)
        records = records[np.lexsort((records["doc"], records["key"], records["cell"]))]
        cell = records["cell"]
        before = np.cumsum(records["num_tokens"], dtype=np.uint64) - records["num_tokens"]
        starts = np.flatnonzero(np.concatenate(([True], cell[1:] != cell[:-1])))
        offset = before[starts]
        if int(cell[0]) == last_cell:  # the cell goes on from the bucket before
            offset = offset.astype(np.int64)
            offset[0] -= carry
        sizes = np.diff(np.concatenate((starts, [len(cell)])))
        before = (before.astype(np.int64) - np.repeat(offset.astype(np.int64), sizes)).astype("u8")
        last_cell, carry = int(cell[-1]), int(before[-1]) + int(records["num_tokens"][-1])
        columns = [records["doc"], cell, records["num_tokens"], before]
        yield pa.table([np.ascontiguousarray(c) for c in columns], schema=ORDER_SCHEMA)


def _write_cells(
    store: StoreDir,
    draft: Draft,
    radix: NDArray[np.int64],
    codes: NDArray[np.int64],
    counts: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
) -> None:
    columns: dict[str, pa.Array] = {"cell": pa.array(np.arange(len(codes)), pa.uint32())}
    for (name, info), factor in zip(draft.agents.items(), radix, strict=False):
        category = codes // factor % len(info.categories)
        columns[name] = pa.array(category, pa.uint16())
    for name, values in zip(("num_docs", "num_tokens", "first_row"), counts, strict=True):
        columns[name] = pa.array(values, pa.uint64())
    names = {name: info.categories for name, info in draft.agents.items()}
    metadata = {METADATA_KEY: json.dumps({"categories": names}).encode()}
    with atomic_path(store.cells) as partial:
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), partial)
