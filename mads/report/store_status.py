"""How a store stands, while annotate is at work anywhere or after: from its files alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mads.annotate.growth import look
from mads.annotate.job import missing_parts
from mads.corpus.places import inside
from mads.errors import DataError
from mads.files import is_held
from mads.layout import StoreDir, check_kind
from mads.store.documents import read_documents, read_documents_header
from mads.store.spec import StoreSpec
from mads.types import Status

LEAST_SHARDS = 4  # below which several workers, ending at once, would tell of any speed
RECENT_S = 600.0  # before the newest shard, over which speed is taken
SILENT_S = 120.0  # a process that has written nothing for so long does not count as at work
NAMED = 10  # files with bad rows, at most

State = Literal["complete", "running", "stopped", "index to build"]


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What is known of a store from its folder, whoever annotates and wherever.

    ``left`` counts the shards that still lack each agent or their documents. Speeds are those of
    the shards that were finished in the latest ten minutes of work, on all machines together.
    ``bad_files`` are the corpus files with the most rows that are not ok, and how many.
    """

    store: str
    state: State
    generation: int  # that can be used now; 0: none yet
    files: int
    shards: int
    shards_done: int
    rows: int
    rows_done: int
    tokens_done: int
    statuses: Mapping[str, int]
    left: Mapping[str, int]
    docs_per_s: float | None
    tokens_per_s: float | None
    seconds_left: float | None
    bad_files: Mapping[str, int]
    workers: int  # processes that have written something just now


def store_status(root: Path) -> StoreStatus:
    """Return how a store stands; nothing in its folder is changed.

    Raises UsageError for what is no store, DataError for a damaged file or where nothing is
    planned yet.
    """
    check_kind(root, "a store")
    store = StoreDir(root)
    before = look(store)
    spec = before.begun or before.spec
    if spec is None:
        raise DataError(f"{root} has no plan yet. `mads annotate --out {root}` makes one.")
    missing = {i: missing_parts(store, spec, i) for i in range(len(spec.shards))}
    done = [i for i, parts in missing.items() if not parts]
    counts: Counter[str] = Counter(dict.fromkeys((status.value for status in Status), 0))
    tokens = dict.fromkeys(done, 0)
    for shard in done:
        header = read_documents_header(store.documents(shard))
        counts.update(header.statuses)
        tokens[shard] = header.tokens
    rows_done = sum(spec.shards[i].num_rows for i in done)
    docs_per_s, tokens_per_s = _speeds(store, spec, tokens)
    workers, is_whole = _num_at_work(store), len(done) == len(spec.shards)
    manifest = before.manifest
    state: State = "index to build" if is_whole else "stopped"
    if is_whole and manifest is not None and _holds(spec, manifest.spec):
        state = "complete"
    if workers or is_held(root):
        state = "running"
    left = spec.num_rows - rows_done
    return StoreStatus(
        store=str(root),
        state=state,
        generation=manifest.generation if manifest is not None else 0,
        files=len(spec.files),
        shards=len(spec.shards),
        shards_done=len(done),
        rows=spec.num_rows,
        rows_done=rows_done,
        tokens_done=sum(tokens.values()),
        statuses=dict(counts),
        left=dict(Counter(part for parts in missing.values() for part in parts)),
        docs_per_s=docs_per_s,
        tokens_per_s=tokens_per_s,
        seconds_left=left / docs_per_s if docs_per_s and left else None,
        bad_files=_bad_files(store, spec, done),
        workers=workers,
    )


def _holds(spec: StoreSpec, made: StoreSpec) -> bool:
    """Return whether a manifest is of what is planned."""
    return spec.shards == made.shards and spec.agents == made.agents


def _speeds(
    store: StoreDir, spec: StoreSpec, tokens: Mapping[int, int]
) -> tuple[float | None, float | None]:
    """Return documents and tokens per second, by when the shards in ``tokens`` were finished.

    The first of them only says when the others' time began.
    """
    ended = sorted((_ended(store, spec, shard), shard) for shard in tokens)
    recent = [(when, shard) for when, shard in ended if when >= ended[-1][0] - RECENT_S]
    if len(recent) < LEAST_SHARDS or recent[-1][0] <= recent[0][0]:
        return None, None
    seconds, shards = recent[-1][0] - recent[0][0], [shard for _, shard in recent[1:]]
    rows = sum(spec.shards[shard].num_rows for shard in shards)
    return rows / seconds, sum(tokens[shard] for shard in shards) / seconds


def _ended(store: StoreDir, spec: StoreSpec, shard: int) -> float:
    """Return when the last of a shard's files was written."""
    paths = [store.documents(shard)]
    for info in spec.agents.values():
        paths += [f(info.folder, shard) for f in (store.scores_shard, store.memory_shard)]
    return max(path.stat().st_mtime for path in paths if path.is_file())


def _num_at_work(store: StoreDir) -> int:
    """Return how many processes have written something a short while ago."""
    latest = time.time() - SILENT_S
    return sum(_touched(path) >= latest for path in store.workplaces)


def _touched(folder: Path) -> float:
    """Return when something in a folder was written last; it may vanish meanwhile."""
    times = [0.0]
    with suppress(OSError):
        for path in (folder, *folder.rglob("*")):
            with suppress(OSError):
                times.append(path.stat().st_mtime)
    return max(times)


def _bad_files(store: StoreDir, spec: StoreSpec, done: list[int]) -> dict[str, int]:
    """Return the corpus files with the most rows that are not ok, the worst first."""
    found: Counter[str] = Counter()
    for shard in done:
        header = read_documents_header(store.documents(shard))
        if header.statuses[Status.OK.value] == spec.shards[shard].num_rows:
            continue
        rows = spec.shards[shard].num_rows
        bad_N = ~read_documents(store.documents(shard), shard, rows).is_ok()
        ends = np.cumsum([segment.num_rows for segment in spec.shards[shard].segments])
        for segment, part_N in zip(
            spec.shards[shard].segments, np.split(bad_N, ends[:-1]), strict=True
        ):
            path = str(inside(spec.root, spec.files[segment.file].path))
            found[path] += int(part_N.sum())
    return {path: count for path, count in found.most_common(NAMED) if count}
