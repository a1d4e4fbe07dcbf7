"""The offline stage: corpus -> documents, tokens, memories, cell index, manifest.

Work is cut into spans of shards that processes take in any order. A shard's file under its final
name is finished work, so a killed call goes on where it was, with any number of processes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from mads.agents import open_agent
from mads.agents.agent import QuantileBins
from mads.annotate.binned import bin_scores
from mads.annotate.job import annotate_span, missing_parts, start_worker
from mads.config import Recipe
from mads.corpus.files import CorpusFile, find_files, scan
from mads.corpus.rows import RowFormat, read_batches
from mads.corpus.tokenizer import fetch_tokenizer, open_tokenizer, train_tokenizer
from mads.errors import DataError
from mads.files import LOCK, PARTIAL, exclusive, read_json, write_json
from mads.layout import StoreDir
from mads.processes import QuietContext
from mads.provenance import provenance
from mads.seeds import derive, uniform
from mads.store.index import build_index, store_seals
from mads.store.sealed import METADATA_KEY, check_sealed
from mads.store.spec import AgentInfo, Shard, StoreSpec
from mads.store.store import Store
from mads.types import Agent, Status
from mads.units import parse_bytes

GRACE_S = 0.5

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total); the unit of ``total`` is rows."""


@dataclass(frozen=True, slots=True)
class AnnotateResult:
    """What a store holds: the counts that ``mads annotate`` prints."""

    rows: int
    statuses: Mapping[str, int]
    text_bytes: int
    tokens: int
    cells: int
    edges: Mapping[str, Sequence[float]]  # of the agents that bin by quantiles
    new_shards: int  # shards that this call worked on
    new_index: bool  # whether this call built the index, which ends the work on a store


def annotate(
    paths: Sequence[Path], out: Path, recipe: Recipe, on_progress: Progress
) -> AnnotateResult:
    """Make or complete a store.

    Raises UsageError for a corpus or recipe that cannot be used, DataError for damaged data or
    for a store that was begun from something else.
    """
    files = find_files(paths)
    agents = {name: open_agent(name, config) for name, config in recipe.agents.items()}
    workers = recipe.corpus.workers or os.cpu_count() or 1
    with exclusive(out):
        store = StoreDir(out)
        _refuse_foreign(store)
        _refuse_changed(store, on_progress)
        spec = _begin(store, _make_spec(_scan(files, workers, on_progress), recipe, agents))
        _make_tokenizer(store, spec, recipe, on_progress)
        new_shards = _label(store, spec, recipe, workers, on_progress)
        spec = bin_scores(store, spec, agents, on_progress)
        if not new_shards and _has_index(store):
            return _result(Store(out).manifest, new_shards, new_index=False)
        store.manifest.unlink(missing_ok=True)
        return _finish(store, spec, recipe, new_shards, on_progress)


def _scan(files: Sequence[Path], workers: int, on_progress: Progress) -> list[CorpusFile]:
    found = []
    for file in scan(files, min(workers, len(files))):
        found.append(file)
        on_progress("scan files", len(found), len(files))
    return found


def _make_spec(
    files: Sequence[CorpusFile], recipe: Recipe, agents: Mapping[str, Agent | QuantileBins]
) -> StoreSpec:
    size = recipe.corpus.shard_docs
    shards = [
        Shard(number, first, min(size, file.num_rows - first))
        for number, file in enumerate(files)
        for first in range(0, file.num_rows, size)
    ]
    identity = [
        *(file.sha256 for file in files),
        recipe.corpus.text_field,
        str(recipe.corpus.max_doc_bytes),
    ]
    return StoreSpec(
        files=tuple(files),
        shards=tuple(shards),
        corpus={
            "text_field": recipe.corpus.text_field,
            "max_doc_bytes": recipe.corpus.max_doc_bytes,
            "fingerprint": hashlib.sha256("\n".join(identity).encode()).hexdigest(),
        },
        tokenizer=dataclasses.asdict(recipe.tokenizer),
        agents={
            name: AgentInfo(tuple(agent.categories), agent.fingerprint)
            for name, agent in agents.items()
        },
        seed=recipe.seed,
    )


def _refuse_foreign(store: StoreDir) -> None:
    """Raise DataError for a folder that holds something else."""
    of_a_beginning = {LOCK, store.spec.name + PARTIAL}
    if not store.spec.is_file() and {p.name for p in store.root.iterdir()} - of_a_beginning:
        raise DataError(
            f"{store.root} is neither empty nor a store (it has no {store.spec.name}). "
            "Give another --out."
        )


def _complete(store: StoreDir) -> Store | None:
    """Return the store, or None while its manifest is missing or damaged."""
    try:
        return Store(store.root)
    except DataError:
        return None


def _refuse_changed(store: StoreDir, on_progress: Progress) -> None:
    """Raise DataError, with both values, for a file of a shard that the manifest does not know.

    Files that are gone are made anew, and so is the index.
    """
    opened = _complete(store)
    if opened is None:
        return
    shards = opened.spec.shards
    for shard in range(len(shards)):
        if store.documents(shard).is_file():
            opened.documents(shard)
        for name in opened.spec.agents:
            if store.memory_shard(name, shard).is_file():
                opened.memory(name, shard)
        on_progress("check the store", shard + 1, len(shards))


def _begin(store: StoreDir, spec: StoreSpec) -> StoreSpec:
    """Compare the spec with what the folder was begun with; write it when that is new.

    Returns it with the quantile edges that were found before.
    """
    if store.spec.is_file():
        before = StoreSpec.from_json(read_json(store.spec), store.spec)
        added = _check_same(store, before, spec)
        spec = dataclasses.replace(spec, agents={**spec.agents, **before.agents})
        opened = _complete(store)
        if not added and spec.files == before.files:
            return spec
        if added or opened is None:
            # The store is incomplete until the new agent's memory and index are written.
            store.manifest.unlink(missing_ok=True)
        else:  # the same files lie in another place
            write_json(store.manifest, {**opened.manifest, "files": spec.to_json()["files"]})
    write_json(store.spec, spec.to_json())
    return spec


def _check_same(store: StoreDir, before: StoreSpec, now: StoreSpec) -> list[str]:
    """Return the agents that are new; raise DataError, with both values, for any other change."""
    pairs: list[tuple[str, Any, Any]] = [
        ("corpus.text_field", before.corpus["text_field"], now.corpus["text_field"]),
        ("corpus.max_doc_bytes", before.corpus["max_doc_bytes"], now.corpus["max_doc_bytes"]),
        ("corpus fingerprint", before.corpus["fingerprint"], now.corpus["fingerprint"]),
        ("corpus.shard_docs and files", before.shards, now.shards),
        ("seed", before.seed, now.seed),
    ]
    keys = before.tokenizer.keys() | now.tokenizer.keys()
    pairs += [
        (f"tokenizer.{key}", before.tokenizer.get(key), now.tokenizer.get(key))
        for key in sorted(keys)
    ]
    for name, info in before.agents.items():
        other = now.agents.get(name)
        pairs.append((f"agent {name!r}", info.fingerprint, other.fingerprint if other else None))
    for what, old, new in pairs:
        if old != new:
            raise DataError(
                f"{store.root} was made with another {what}: found {_short(old)}, "
                f"now {_short(new)}. Give another --out, or the old values."
            )
    return [name for name in now.agents if name not in before.agents]


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} shards"
    is_fingerprint = isinstance(value, str) and len(value) == hashlib.sha256().digest_size * 2
    return f"{str(value)[:16]}…" if is_fingerprint else repr(value)


def _make_tokenizer(
    store: StoreDir, spec: StoreSpec, recipe: Recipe, on_progress: Progress
) -> None:
    if store.tokenizer.is_dir():
        return
    if recipe.tokenizer.name:
        fetch_tokenizer(recipe.tokenizer, store.tokenizer)
        return
    texts = _tokenizer_sample(spec, recipe, on_progress)
    train_tokenizer(texts, recipe.tokenizer.vocab_size, store.tokenizer)


def _tokenizer_sample(spec: StoreSpec, recipe: Recipe, on_progress: Progress) -> Iterator[str]:
    """Yield a seeded sample of texts, about ``sample_bytes`` in all."""
    total = max(sum(file.text_bytes for file in spec.files), 1)
    keep = recipe.tokenizer.sample_bytes / total
    seed = derive(recipe.seed, "tokenizer sample")
    row_format = RowFormat(recipe.corpus.text_field, (), recipe.corpus.max_doc_bytes)
    done, rows = 0, sum(file.num_rows for file in spec.files)
    for number, file in enumerate(spec.files):
        first = 0
        for batch in read_batches(Path(file.path), 0, file.num_rows, row_format):
            numbers = np.arange(first, first + len(batch), dtype=np.uint64)
            chosen = uniform(numbers, derive(seed, number)) < keep
            yield from (text for text, use in zip(batch.texts, chosen, strict=True) if use and text)
            first += len(batch)
            done += len(batch)
            on_progress("train tokenizer", done, rows)


def _label(
    store: StoreDir, spec: StoreSpec, recipe: Recipe, workers: int, on_progress: Progress
) -> int:
    """Label and tokenise every shard that is not finished; return how many there were."""
    todo = [i for i in range(len(spec.shards)) if missing_parts(store, spec, i)]
    if not todo:
        return 0
    spans = _spans(spec, todo, workers)
    rows = sum(shard.num_rows for shard in spec.shards)
    done = rows - sum(spec.shards[i].num_rows for i in todo)
    context = QuietContext()
    reports: SimpleQueue[int] = context.SimpleQueue()
    with ProcessPoolExecutor(
        min(workers, len(spans)),
        context,
        initializer=start_worker,
        initargs=(store, spec, recipe.agents, reports),
    ) as pool:
        futures: set[Future[None]] = {pool.submit(annotate_span, span) for span in spans}
        try:
            while futures:
                finished, futures = wait(futures, timeout=0.1)
                while not reports.empty():
                    done += reports.get()
                    on_progress("label and tokenise", done, rows)
                for future in finished:
                    future.result()
        except BrokenProcessPool as error:
            time.sleep(GRACE_S)  # after Ctrl-C, which may reach the workers first, this is not said
            raise DataError(
                "a worker process was killed, most likely for want of memory. Run the same "
                "command again with --set corpus.workers=1; it goes on where it was."
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    on_progress("label and tokenise", rows, rows)
    return len(todo)


def _spans(spec: StoreSpec, todo: Sequence[int], workers: int) -> list[tuple[int, ...]]:
    """Cut the shards to do into spans of one file each, the largest first."""
    length = max(1, len(todo) // (4 * workers))
    spans: list[list[int]] = []
    for shard in todo:
        last = spans[-1] if spans else []
        together = last and spec.shards[last[-1]].file == spec.shards[shard].file
        if together and len(last) < length:
            last.append(shard)
        else:
            spans.append([shard])
    spans.sort(key=lambda span: -sum(spec.shards[i].num_rows for i in span))
    return [tuple(span) for span in spans]


def _has_index(store: StoreDir) -> bool:
    """Return whether the index is there, byte for byte, as the manifest says."""
    opened = _complete(store)
    if opened is None:
        return False
    try:
        for path in (store.cells, store.order):
            check_sealed(path, opened.seal(path))
    except DataError:
        return False
    docs = int(opened.cells.num_docs_C.sum())
    counts: object = opened.manifest["index"]
    return counts == {"cells": len(opened.cells), "docs": docs}


def _finish(
    store: StoreDir, spec: StoreSpec, recipe: Recipe, new_shards: int, on_progress: Progress
) -> AnnotateResult:
    rows = 2 * sum(shard.num_rows for shard in spec.shards)
    done = 0

    def report(more: int) -> None:
        nonlocal done
        done += more
        on_progress("build index", done, rows)

    num_cells, num_docs = build_index(store, spec, parse_bytes(recipe.index_ram), report)
    tokenizer = open_tokenizer(store.tokenizer)
    identity = [
        spec.corpus["fingerprint"],
        tokenizer.fingerprint,
        *(f"{name} {info.fingerprint}" for name, info in spec.agents.items()),
        *(f"{shard.file} {shard.first_row} {shard.num_rows}" for shard in spec.shards),
        str(spec.seed),
    ]
    manifest = {
        **spec.to_json(),
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "vocab_size": tokenizer.vocab_size,
        "fingerprint": hashlib.sha256("\n".join(identity).encode()).hexdigest(),
        "documents": _count_documents(store, spec),
        "index": {"cells": num_cells, "docs": num_docs},
        "content": {
            name: dataclasses.asdict(seal) for name, seal in store_seals(store, spec).items()
        },
        "provenance": provenance(),
    }
    write_json(store.manifest, manifest)
    return _result(manifest, new_shards, new_index=True)


def _count_documents(store: StoreDir, spec: StoreSpec) -> dict[str, Any]:
    statuses = dict.fromkeys((status.value for status in Status), 0)
    totals = {"rows": 0, "tokens": 0, "text_bytes": 0}
    for shard in range(len(spec.shards)):
        metadata = pq.read_metadata(store.documents(shard))
        summary = json.loads(metadata.metadata[METADATA_KEY])
        totals["rows"] += metadata.num_rows
        totals["tokens"] += summary["tokens"]
        totals["text_bytes"] += summary["text_bytes"]
        for name, count in summary["statuses"].items():
            statuses[name] += count
    expected = sum(file.num_rows for file in spec.files)
    assert totals["rows"] == expected, "rows in = rows out"
    return {**totals, "statuses": statuses}


def _result(manifest: Mapping[str, Any], new_shards: int, *, new_index: bool) -> AnnotateResult:
    documents = manifest["documents"]
    return AnnotateResult(
        rows=documents["rows"],
        statuses=documents["statuses"],
        text_bytes=documents["text_bytes"],
        tokens=documents["tokens"],
        cells=manifest["index"]["cells"],
        edges={
            name: info["edges"]
            for name, info in manifest["agents"].items()
            if info["edges"] is not None
        },
        new_shards=new_shards,
        new_index=new_index,
    )
