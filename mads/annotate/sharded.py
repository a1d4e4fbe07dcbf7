"""Annotate on many machines that share a file system: plan once, then parts anywhere, then finish.

plan    scan, agents, tokenizer: what is decided once; ``annotate.json`` notes it
part    i of n, labels and tokenises its shards; parts run at the same time, in any order, twice
finish  edges of quantiles, index, manifest: by the last part out, or by a call of its own

Every call gets the same corpus and recipe, and looks whether that is what was planned. A part
reads again only files that have another size or time than the plan has seen. Parts hold the store
together, so neither a plan nor a finish comes between them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mads.annotate.annotate import AnnotateResult, begin, check_result, complete, label, sweep
from mads.annotate.growth import Before
from mads.annotate.job import missing_parts
from mads.annotate.spans import make_spans
from mads.annotate.survey import Asked, Work, ask, survey
from mads.config import Recipe
from mads.corpus.places import inside
from mads.errors import DataError, InUse, UsageError
from mads.files import exclusive, shared
from mads.processes import place_in
from mads.store.spec import StoreSpec
from mads.types import Report
from mads.units import parse_digits, shorten

AUTO = "auto"
_NAMED = 5  # shards or files that a message lists


@dataclass(frozen=True, slots=True)
class Planned:
    """What a plan has found, and how many shards are to do."""

    files: int
    rows: int
    text_bytes: int
    shards: int
    new_shards: int
    layout: str
    skipped: Sequence[str]


@dataclass(frozen=True, slots=True)
class PartDone:
    """What a part has done; ``finished`` where it was the last one out and built the index."""

    part: int
    parts: int
    shards: int  # of this part
    new_shards: int  # that this call worked on
    complete: bool  # whether every shard of the store is there
    finished: AnnotateResult | None


def plan(
    paths: Sequence[Path | str],
    out: Path,
    recipe: Recipe,
    on_progress: Report,
    *,
    verify: bool = False,
) -> Planned:
    """Decide and note what parts have to agree on; raises as ``annotate`` does."""
    asked = ask(paths, out, recipe, verify=verify)
    with exclusive(out):
        work = begin(asked, on_progress)
        work.seen.write()
        spec = work.spec
        todo = [i for i in range(len(spec.shards)) if missing_parts(work.store, spec, i)]
    return Planned(
        files=len(spec.files),
        rows=spec.num_rows,
        text_bytes=sum(file.text_bytes for file in spec.files),
        shards=len(spec.shards),
        new_shards=len(todo),
        layout=work.layout,
        skipped=work.skipped,
    )


def annotate_part(
    paths: Sequence[Path | str],
    out: Path,
    recipe: Recipe,
    part: tuple[int, int],
    on_progress: Report,
) -> PartDone:
    """Do part i of n (i from 1), and finish the store if nothing is left and nobody else is at it.

    Raises DataError where there is no plan, or for another corpus or recipe than was planned.
    """
    asked = ask(paths, out, recipe)
    number, parts = part
    if not out.is_dir():
        raise _no_plan(asked)
    with shared(out):
        work = _planned(asked, on_progress)
        mine = deal(work.spec, work.before, parts)[number - 1]
        new_shards = label(work, mine, on_progress)
        whole = not lacking(work, first_only=True)
    finished = None
    if whole:
        try:
            finished = finish(paths, out, recipe, on_progress)
        except InUse:  # by another part, which will look too, or by the one that finishes it
            finished = None
    return PartDone(number, parts, len(mine), new_shards, whole, finished)


def finish(
    paths: Sequence[Path | str], out: Path, recipe: Recipe, on_progress: Report
) -> AnnotateResult:
    """Build the index and write the manifest, unless that is done.

    Raises DataError that names the shards which are missing.
    """
    asked = ask(paths, out, recipe)
    if not out.is_dir():
        raise _no_plan(asked)
    with exclusive(out):
        work = _planned(asked, on_progress, check_store=True)
        missing = lacking(work)
        if missing:
            raise _unfinished(work, missing)
        sweep(work.store)
        result = complete(work, 0, on_progress)
    check_result(work, result)
    return result


def lacking(work: Work, *, first_only: bool = False) -> dict[int, list[str]]:
    """Return what each shard lacks, of those that lack something."""
    found: dict[int, list[str]] = {}
    for shard in range(len(work.spec.shards)):
        if parts := missing_parts(work.store, work.spec, shard):
            found[shard] = parts
            if first_only:
                break
    return found


def _unfinished(work: Work, missing: Mapping[int, Sequence[str]]) -> DataError:
    lines = [f"  - shard {n}: {', '.join(parts)}" for n, parts in list(missing.items())[:_NAMED]]
    if len(missing) > _NAMED:
        lines.append(f"  - and {len(missing) - _NAMED:,} more")
    text = "\n".join(lines)
    return DataError(
        f"{work.store.root} cannot be finished: {len(missing):,} of {len(work.spec.shards):,} "
        f"shards lack something:\n{text}\nRun the parts again that did not end well (the same "
        "--shard i/n; what is there is kept), or `mads annotate` without --shard, which does all "
        "that is left."
    )


def _no_plan(asked: Asked) -> DataError:
    store = asked.store
    what = "half a plan (no tokenizer)" if store.spec.is_file() else "no plan"
    return DataError(
        f"{store.root} has {what}. Run the same command with --plan first, once and to its end; "
        "then --shard i/n as often as you like."
    )


def _planned(asked: Asked, on_progress: Report, *, check_store: bool = False) -> Work:
    """Return the work; raises DataError, with both values, where it is not what was planned."""
    store = asked.store
    if not store.spec.is_file() or not store.tokenizer.is_dir():
        raise _no_plan(asked)
    work = survey(asked, on_progress, check_store=check_store)
    begun = work.before.begun
    if begun is None:
        raise _no_plan(asked)
    if work.spec != begun:
        lines = "\n".join(f"  - {line}" for line in _differences(begun, work.spec))
        raise DataError(
            f"{work.store.root} was planned otherwise:\n{lines}\nGive what --plan was given, or "
            "run --plan again with what you give now."
        )
    return work


def _differences(begun: StoreSpec, now: StoreSpec) -> list[str]:
    lines = []
    for name in {**begun.agents, **now.agents}:
        pair = [
            f"fingerprint {spec.agents[name].fingerprint[:16]}" if name in spec.agents else "none"
            for spec in (begun, now)
        ]
        if pair[0] != pair[1]:
            lines.append(f"agent {name!r}: planned {pair[0]}, found {pair[1]}")
    old, new = ({_path(s, i): f.sha256 for i, f in enumerate(s.files)} for s in (begun, now))
    strange = [path for path in {**old, **new} if old.get(path) != new.get(path)]
    for path in strange[:_NAMED]:
        pair = [sha[:16] if sha else "not there" for sha in (old.get(path), new.get(path))]
        lines.append(f"file {path}: planned {pair[0]}, found {pair[1]}")
    if len(strange) > _NAMED:
        lines.append(f"and {len(strange) - _NAMED:,} more files")
    for key in ("text_field", "id_field", "max_doc_bytes", "seed", "tokenizer"):
        before, after = getattr(begun, key), getattr(now, key)
        if before != after:
            lines.append(f"{key}: planned {before!r}, found {after!r}")
    return lines or ["the order of files or agents, or corpus.shard_docs or shard_bytes"]


def _path(spec: StoreSpec, number: int) -> str:
    return str(inside(spec.root, spec.files[number].path))


def deal(spec: StoreSpec, before: Before, parts: int) -> list[list[int]]:
    """Share all shards out to n parts of about as many rows; a file is cut as little as may be.

    The same whatever is done already: a part that is run again has the same shards. What a growing
    store has already counts apart, so that what is new is shared out evenly.
    """
    known = before.agents_of_generations()
    same = known.issuperset((name, info.fingerprint) for name, info in spec.agents.items())
    first_new = len(before.manifest.spec.shards) if before.manifest is not None and same else 0
    found: list[list[int]] = [[] for _ in range(parts)]
    for shards in (range(first_new, len(spec.shards)), range(first_new)):
        rows = [0] * parts
        for span in make_spans(spec, shards, parts):
            least = min(range(parts), key=rows.__getitem__)
            found[least] += span
            rows[least] += sum(spec.shards[shard].num_rows for shard in span)
    return [sorted(one) for one in found]


def parse_shard(text: str) -> tuple[int, int]:
    """Return (i, n) of ``i/n``, i from 1 to n, or of what a batch system says; raises UsageError.

    ``auto`` takes SLURM_ARRAY_TASK_ID and its companions, RANK and WORLD_SIZE, or both.

    >>> parse_shard("2/8")
    (2, 8)
    """
    if text == AUTO:
        return _place_in_batch(os.environ)
    index, slash, count = text.partition("/")
    number, parts = parse_digits(index), parse_digits(count)
    if not slash or number is None or parts is None or not 1 <= number <= parts:
        raise UsageError(
            f"--shard {shorten(text)}: expected i/n with i from 1 to n, such as 1/8 and 8/8, or "
            "auto, under Slurm or torchrun."
        )
    return number, parts


def _place_in_batch(environment: Mapping[str, str]) -> tuple[int, int]:
    """Return the part of a task of a job array, of a process of torchrun, or of both."""
    names = ("SLURM_ARRAY_TASK_ID", "RANK")
    if not any(name in environment for name in names):
        raise UsageError(
            f"--shard auto: neither {names[0]} nor {names[1]} is in the environment. Give i/n."
        )
    task, tasks = _task(environment) if names[0] in environment else (0, 1)
    place = place_in(environment)
    if place is None:
        rank, size = environment.get("RANK", "0"), environment.get("WORLD_SIZE", "1")
        raise UsageError(
            f"--shard auto: found RANK={rank} and WORLD_SIZE={size}, expected a rank "
            "below the number of processes. Give i/n."
        )
    return task * place[1] + place[0] + 1, tasks * place[1]


def _task(environment: Mapping[str, str]) -> tuple[int, int]:
    """Return the place of a task, from 0, in its job array, and their number.

    Slurm tells the first and last number, and the step of a regular array; of `--array=1,5,7`
    nobody knows which comes when.
    """
    keys = ("ID", "MIN", "MAX", "COUNT")
    words = {key: environment.get(f"SLURM_ARRAY_TASK_{key}", "") for key in keys}
    number, least, most, count = (parse_digits(words[key]) for key in keys)
    if number is not None and least is not None and most is not None and count:
        step = (most - least) // (count - 1) if count > 1 else 1
        place = (number - least) // step if step else -1
        if least + step * (count - 1) == most and least + step * place == number and place < count:
            return place, count
    told = ", ".join(f"SLURM_ARRAY_TASK_{key}={value}" for key, value in words.items())
    raise UsageError(
        f"--shard auto: found {told}, expected an array of equal steps such as --array=1-8. Give "
        "--shard $SLURM_ARRAY_TASK_ID/8 for some tasks of it."
    )
