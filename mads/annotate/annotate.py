"""The offline stage: corpus -> documents, tokens, memories, cell index, manifest.

Work is cut into spans of shards that an executor takes in any order. A shard's file under its
final name is finished work, so a killed call goes on where it was, with any number of workers.
Until the manifest is written, last of all, the store is what it was before.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mads.agents.agent import QuantileBins, devices_of
from mads.annotate.binned import bin_scores
from mads.annotate.checks import check_bad_rows
from mads.annotate.cost import BINS, DOCUMENTS, INDEX, PLAN, Clock, add_up, note_cost
from mads.annotate.executors import EXECUTORS
from mads.annotate.growth import Before
from mads.annotate.job import Job, missing_parts, prepare_agents
from mads.annotate.spans import make_spans
from mads.annotate.survey import Asked, Work, ask, survey
from mads.annotate.verify import check_tokens
from mads.config import Recipe
from mads.corpus.places import inside
from mads.corpus.readers.reader import RowFormat
from mads.corpus.rows import RowReader
from mads.corpus.tokenizer import (
    check_tokenizer,
    fetch_tokenizer,
    open_tokenizer,
    train_tokenizer,
)
from mads.errors import DataError
from mads.files import exclusive
from mads.layout import StoreDir
from mads.provenance import provenance
from mads.sealed import Seal
from mads.seeds import derive, uniform
from mads.store.build import build_index, index_seals
from mads.store.documents import read_documents_header, read_ids
from mads.store.ids import count_ids
from mads.store.manifest import FORMAT, DocumentCounts, Generation, IdCounts, Manifest, write_spec
from mads.store.spec import StoreSpec
from mads.store.store import Store
from mads.types import Agent, Report, Status
from mads.units import parse_bytes


@dataclass(frozen=True, slots=True)
class AnnotateResult:
    """What a store holds: the counts that ``mads annotate`` prints."""

    rows: int
    statuses: Mapping[str, int]
    text_bytes: int
    tokens: int
    cells: int
    generation: int
    edges: Mapping[str, Sequence[float]]  # of the agents that bin by quantiles
    new_files: int  # corpus files that the store did not have before
    new_agents: Sequence[str]  # agents, new or changed, that it did not have before
    new_shards: int  # shards that this call worked on
    new_index: bool  # whether this call built an index
    id_field: str  # where the user's ids are from; empty: there are none
    ids: IdCounts | None
    layout: str = ""  # of the corpus, where it is a known one
    left_out: Sequence[str] = ()  # files of its folders that are taken for notes beside the others
    skipped: Sequence[str] = ()  # what is said of files without a text


def annotate(
    paths: Sequence[Path | str],
    out: Path,
    recipe: Recipe,
    on_progress: Report,
    *,
    verify: bool = False,
) -> AnnotateResult:
    """Make, complete or extend a store.

    With ``verify`` every file of corpus and store is read and compared; else those are that have
    another size or time than when they were read last. Raises UsageError for a corpus or recipe
    that cannot be used, DataError for damaged data or for what a store cannot become.
    """
    asked = ask(paths, out, recipe, verify=verify)
    with exclusive(out):
        work = begin(asked, on_progress)
        new_shards = label(work, range(len(work.spec.shards)), on_progress)
        result = complete(work, new_shards, on_progress)
    check_result(work, result)
    return result


def begin(asked: Asked, on_progress: Report) -> Work:
    """Decide what is decided once, and note it: files, shards, agents, the tokenizer.

    Nobody else may be at work in the store.
    """
    clock = Clock()
    with clock.stage(PLAN):
        work = survey(asked, on_progress)
        sweep(work.store)
        is_new = work.spec != work.before.begun
        if is_new:
            write_spec(work.store, work.spec)
        _make_tokenizer(work.store, work.before.manifest, work.spec, work.recipe, on_progress)
    if is_new:
        note_cost(work.store, PLAN, clock.cost)
    return work


def sweep(store: StoreDir) -> None:
    """Remove what killed processes have left half done; nobody else may be at work."""
    for path in store.workplaces:
        shutil.rmtree(path)


def complete(work: Work, new_shards: int, on_progress: Report) -> AnnotateResult:
    """Cut scores into bins, build the index and write the manifest: every shard is there."""
    before, store, clock = work.before, work.store, Clock()
    with clock.stage(BINS):
        spec = bin_scores(store, work.spec, work.asked.agents, on_progress)
        shutil.rmtree(store.prepared, ignore_errors=True)
    with clock.stage(INDEX):
        manifest, new_index = _finish(store, before.manifest, spec, work.recipe, on_progress)
    if new_index or store.costs.is_dir():
        add_up(store, clock.cost)
    for path in _own_files(Store(store.root)):
        work.seen.note(path)
    work.seen.write()
    result = _result(before, manifest, new_shards, new_index=new_index)
    left_out = [str(path) for path in work.asked.given.left_out]
    return replace(result, layout=work.layout, left_out=left_out, skipped=work.skipped)


def check_result(work: Work, result: AnnotateResult) -> None:
    """Raise DataError where more of a complete store's rows are bad than may be."""
    check_bad_rows(work.store, result.rows, result.statuses, work.recipe.corpus.max_bad)


def _make_tokenizer(
    store: StoreDir,
    before: Manifest | None,
    spec: StoreSpec,
    recipe: Recipe,
    on_progress: Report,
) -> None:
    """Fetch or train the tokenizer unless there is one.

    It was trained before the store grew, so it is trained again from the files of then. Raises
    DataError when it becomes another one, which the tokens are not of.
    """
    if store.tokenizer.is_dir():
        if before is None:  # else its manifest knows it
            check_tokenizer(store.tokenizer)
        return
    if recipe.tokenizer.name:
        fetch_tokenizer(recipe.tokenizer, store.tokenizer)
    else:
        if before is not None:
            spec = before.at(min(map(int, before.generations)))
            num_files = 1 + max(s.file for shard in spec.shards for s in shard.segments)
            spec = replace(spec, files=spec.files[:num_files])
        texts = _tokenizer_sample(spec, recipe, on_progress)
        train_tokenizer(texts, recipe.tokenizer.vocab_size, store.tokenizer)
    if before is None:
        return
    found = open_tokenizer(store.tokenizer).fingerprint
    if found != before.tokenizer_fingerprint:
        shutil.rmtree(store.tokenizer)
        raise DataError(
            f"{store.tokenizer} is gone, and what would be made in its place is another one: "
            f"found {found[:16]}, expected {before.tokenizer_fingerprint[:16]}. Put the old one "
            "back, or give another --out."
        )


def _tokenizer_sample(spec: StoreSpec, recipe: Recipe, on_progress: Report) -> Iterator[str]:
    """Yield a seeded sample of texts, about ``sample_bytes`` in all."""
    total = max(sum(file.text_bytes for file in spec.files), 1)
    keep = recipe.tokenizer.sample_bytes / total
    seed = derive(recipe.seed, "tokenizer sample")
    row_format = RowFormat(spec.text_field, (), spec.max_doc_bytes)
    done, rows = 0, sum(file.num_rows for file in spec.files)
    for number, file in enumerate(spec.files):
        first = 0
        reader = RowReader(inside(spec.root, file.path), row_format, file.path)
        for batch in reader.batches(0, file.num_rows):
            numbers = np.arange(first, first + len(batch), dtype=np.uint64)
            chosen = uniform(numbers, derive(seed, number)) < keep
            yield from (text for text, use in zip(batch.texts, chosen, strict=True) if use and text)
            first += len(batch)
            done += len(batch)
            on_progress("train tokenizer", done, rows)


def _check_begun(work: Work, shards: Sequence[int]) -> None:
    """Raise DataError for tokens of a killed call that were changed: no manifest tells of them.

    Whatever else it left is compared with itself when it is read.
    """
    manifest = work.before.manifest
    known = len(manifest.spec.shards) if manifest is not None else 0
    for shard in shards:
        if shard >= known and DOCUMENTS not in missing_parts(work.store, work.spec, shard):
            check_tokens(work.store, shard, work.seen)


def label(work: Work, shards: Sequence[int], on_progress: Report) -> int:
    """Label and tokenise those shards that are not finished; return how many there were."""
    store, spec, corpus = work.store, work.spec, work.recipe.corpus
    _check_begun(work, shards)
    missing = {i: missing_parts(store, spec, i) for i in shards}
    todo = [i for i, parts in missing.items() if parts]
    if not todo:
        return 0
    wanted = {name for parts in missing.values() for name in parts}
    agents = work.asked.agents
    prepare_agents(store, spec, {n: agent for n, agent in agents.items() if n in wanted})
    rows = sum(spec.shards[i].num_rows for i in shards)
    done = rows - sum(spec.shards[i].num_rows for i in todo)

    def report(more: int) -> None:
        nonlocal done
        done = min(done + more, rows)  # agents on GPUs read the rows once more
        on_progress("label and tokenise", done, rows)

    for job in _passes(store, spec, work.recipe, agents):
        lacking = [i for i in todo if job.missing(i)]
        at_once = len(job.devices) or work.asked.workers
        if lacking:
            EXECUTORS[corpus.executor](job, make_spans(spec, lacking, at_once), at_once, report)
    on_progress("label and tokenise", rows, rows)
    return len(todo)


def _passes(
    store: StoreDir, spec: StoreSpec, recipe: Recipe, agents: Mapping[str, Agent | QuantileBins]
) -> list[Job]:
    """Return the job of the CPU's cores and, for agents on GPUs, one of a process for each GPU."""
    on_gpu = {name: devices_of(agent) for name, agent in agents.items() if devices_of(agent)}
    others = {name: config for name, config in recipe.agents.items() if name not in on_gpu}
    jobs = [Job(store, spec, others)]
    if on_gpu:
        chosen = {name: recipe.agents[name] for name in on_gpu}
        devices = visible(next(iter(on_gpu.values())))
        jobs.append(Job(store, spec, chosen, documents=False, devices=devices))
    return jobs


def visible(devices: Sequence[str], names: str | None = None) -> tuple[str, ...]:
    """Return what CUDA calls GPUs that are known by their places among those it shows.

    >>> visible(["0", "1"], "4,GPU-7")
    ('4', 'GPU-7')
    """
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "") if names is None else names
    known = shown.split(",") if shown else []
    return tuple(known[int(place)] if known else place for place in devices)


def _finish(
    store: StoreDir,
    before: Manifest | None,
    spec: StoreSpec,
    recipe: Recipe,
    on_progress: Report,
) -> tuple[Manifest, bool]:
    """Build the index, unless a generation of the same content has one, and write the manifest.

    Returns the manifest, and whether an index was built.
    """
    tokenizer = open_tokenizer(store.tokenizer)
    fingerprint = spec.fingerprint(tokenizer.fingerprint)
    generations = dict(before.generations) if before is not None else {}
    same = [int(n) for n, found in generations.items() if found.fingerprint == fingerprint]
    number = same[0] if same else max(map(int, generations), default=0) + 1
    todo = {n: before.at(int(n)) for n in generations if before and _lacks_index(store, before, n)}
    if not same:
        todo[str(number)] = spec
    seals = _known_seals(store, before)
    for name, of in todo.items():
        if before is not None and name in before.generations:
            _refuse_lost_memory(store, before, int(name))
        fingerprint = of.fingerprint(tokenizer.fingerprint)
        generations[name] = _build(store, of, int(name), fingerprint, recipe, seals, on_progress)
    manifest = Manifest(
        format=FORMAT,
        spec=spec,
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        generation=number,
        generations=generations,
        provenance=(before.provenance if before and not todo else {}) or dict(provenance()),
    )
    for name in todo:
        manifest.keep(store, name)
    if manifest != before:
        manifest.write(store)
    return manifest, bool(todo)


def _refuse_lost_memory(store: StoreDir, before: Manifest, number: int) -> None:
    """Raise DataError where the memories of an older generation, for a new index, are gone."""
    of = before.at(number)
    for agent, info in of.agents.items():
        for path in (store.memory_shard(info.folder, shard) for shard in range(len(of.shards))):
            if not path.is_file():
                raise DataError(
                    f"{path} is gone, and so is a file of the index of generation {number}, which "
                    f"is made from it. {before.memory_remedy(number, agent)}"
                )


def _lacks_index(store: StoreDir, manifest: Manifest, generation: str) -> bool:
    return not all((store.root / name).is_file() for name in manifest.generations[generation].files)


def _build(
    store: StoreDir,
    spec: StoreSpec,
    number: int,
    fingerprint: str,
    recipe: Recipe,
    seals: Mapping[str, Seal],
    on_progress: Report,
) -> Generation:
    rows, done = 2 * spec.num_rows, 0

    def report(more: int) -> None:
        nonlocal done
        done += more
        on_progress("build index", done, rows)

    index = store.index(number)
    cells, docs = build_index(store, spec, index, parse_bytes(recipe.index_ram), report, seals)
    return Generation(
        num_shards=len(spec.shards),
        agents=spec.agents,
        fingerprint=fingerprint,
        cells=cells,
        docs=docs,
        documents=_count_documents(store, spec),
        files=index_seals(store, index),
    )


def _known_seals(store: StoreDir, before: Manifest | None) -> dict[str, Seal]:
    """Return what earlier generations say of the files of documents and memories."""
    found: dict[str, Seal] = {}
    for number in before.generations if before is not None else ():
        if store.index(int(number)).content.is_file():
            found |= Store(store.root, int(number)).content
    return found


def _own_files(opened: Store) -> list[Path]:
    """Return all files of a store that were verified when they were made."""
    names = [*opened.content, *opened.facts.files]
    tokens = [
        path
        for shard in range(len(opened.spec.shards))
        for path in (opened.dir.tokens_bin(shard), opened.dir.tokens_idx(shard))
    ]
    return [*(opened.dir.root / name for name in names), *tokens]


def _count_documents(store: StoreDir, spec: StoreSpec) -> DocumentCounts:
    headers = [read_documents_header(store.documents(i)) for i in range(len(spec.shards))]
    statuses = {
        status.value: sum(header.statuses[status.value] for header in headers) for status in Status
    }
    rows = sum(statuses.values())
    assert rows == spec.num_rows, "rows in = rows out"
    return DocumentCounts(
        rows=rows,
        tokens=sum(header.tokens for header in headers),
        text_bytes=sum(header.text_bytes for header in headers),
        statuses=statuses,
        ids=_count_ids(store, spec),
    )


def _count_ids(store: StoreDir, spec: StoreSpec) -> IdCounts | None:
    if not spec.id_field:
        return None
    paths = [store.documents(i) for i in range(len(spec.shards))]
    return count_ids(lambda: map(read_ids, paths), spec.num_rows)


def _result(
    before: Before, manifest: Manifest, new_shards: int, *, new_index: bool
) -> AnnotateResult:
    found = manifest.generations[str(manifest.generation)]
    known = before.agents()
    old = before.manifest.spec.files if before.manifest is not None else ()
    return AnnotateResult(
        rows=found.documents.rows,
        statuses=found.documents.statuses,
        text_bytes=found.documents.text_bytes,
        tokens=found.documents.tokens,
        cells=found.cells,
        generation=manifest.generation,
        edges={n: info.edges for n, info in found.agents.items() if info.edges is not None},
        new_files=len(manifest.spec.files) - len(old),
        new_agents=[
            name for name, info in found.agents.items() if (name, info.fingerprint) not in known
        ],
        new_shards=new_shards,
        new_index=new_index,
        id_field=manifest.spec.id_field,
        ids=found.documents.ids,
    )
