"""The folder of a comparison: whose it is, and the training of what is missing in it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mads.codec import Count, from_json
from mads.errors import DataError, UsageError
from mads.experiments.arms import Arms, check_arms
from mads.experiments.jobs import TrainJob, train_all
from mads.files import LOCK, PARTIAL, exclusive, unreadable, write_text
from mads.layout import ComparisonDir, kind_of, refuse_inside
from mads.recipe import to_table, to_toml
from mads.run.folder import differences
from mads.run.reader import Run
from mads.run.result import whole_result
from mads.store.store import Store
from mads.types import Report

REMEDY = "Put it back as it was, or give another --out."


@dataclass(frozen=True, slots=True)
class SavedArms:
    """arms.toml in the folder of a comparison."""

    baseline: str
    store: str  # its fingerprint
    generation: Count
    arms: Mapping[str, Mapping[str, Any]]  # whole recipes, whose seed is none of theirs


def read_saved_arms(folder: ComparisonDir) -> SavedArms | None:
    """Return what a comparison was begun with, None in a new folder; raises DataError."""
    if not folder.arms.is_file():
        return None
    try:
        value = tomllib.loads(folder.arms.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(folder.arms, error, REMEDY) from error
    return from_json(SavedArms, value, folder.arms, "the arms of a comparison", REMEDY)


def open_for_comparison(root: Path, out: Path) -> Store:
    """Open the generation of a store that a comparison was begun with, or the current one.

    Raises UsageError for an ``out`` that is, or lies in, what mads has made otherwise.
    """
    refuse_inside(out)
    if kind := kind_of(out):
        raise UsageError(f"{out} is {kind}. Give another --out.")
    saved = read_saved_arms(ComparisonDir(out))
    return Store(root, saved.generation if saved else None)


@contextmanager
def comparison_folder(out: Path, store: Store, arms: Arms) -> Iterator[ComparisonDir]:
    """Hold a folder that is new, or a comparison of these arms, to which others may come.

    Raises UsageError, before anything is written, for arms that do not fit the store or are not
    the folder's, DataError for another store or while another process holds the folder.
    """
    check_arms(arms, store)
    folder = ComparisonDir(out)
    with exclusive(out):
        saved = read_saved_arms(folder)
        if saved is None:
            names = {entry.name for entry in out.iterdir() if entry.suffix != PARTIAL}
            if names - {LOCK}:
                raise UsageError(
                    f"{out} is neither empty nor a comparison: it has {min(names - {LOCK})!r}. "
                    "Give another --out."
                )
        else:
            _refuse_others(folder, saved, store, arms)
        write_arms(folder, store, arms)
        yield folder


def write_arms(folder: ComparisonDir, store: Store, arms: Arms) -> None:
    """Write arms.toml: what the folder compares, and on which store."""
    table = {
        "baseline": arms.baseline,
        "store": store.fingerprint,
        "generation": store.generation,
        "arms": {arm: to_table(recipe) for arm, recipe in arms.recipes.items()},
    }
    write_text(folder.arms, to_toml(table))


def _refuse_others(folder: ComparisonDir, saved: SavedArms, store: Store, arms: Arms) -> None:
    """Raise an error unless a comparison is of these arms, or of some of them, and this store."""
    if (saved.store, saved.generation) != (store.fingerprint, store.generation):
        raise DataError(
            f"{folder.root} compares arms on another store: found {saved.store[:16]} (generation "
            f"{saved.generation}), now {store.fingerprint[:16]} (generation {store.generation}). "
            "Give that store, or another --out."
        )
    problems = []
    for arm, table in saved.arms.items():
        if arm not in arms.recipes:
            problems.append(f"arm {arm!r} is missing now")
        elif changed := differences(table, to_table(arms.recipes[arm])):
            problems.append(f"arm {arm!r} was changed: {'; '.join(changed[:5])}")
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise UsageError(
            f"{folder.root} holds a comparison of other arms:\n{lines}\nArms may be added, not "
            "changed: put them back, give a changed one another name, or give another --out."
        )


def train_arms(
    folder: ComparisonDir,
    store: Store,
    arms: Arms,
    seeds: Sequence[int],
    limit: int,
    report: Report,
) -> None:
    """Train the runs that are missing, seed after seed, ``limit`` at a time.

    Raises DataError that names the runs that failed, Interrupted after a signal.
    """
    for arm, recipe in arms.recipes.items():
        write_text(folder.recipe(arm), to_toml(to_table(recipe)))
    jobs = [
        TrainJob(
            name=f"{arm}, seed {seed}",
            recipe=folder.recipe(arm),
            seed=seed,
            run=folder.run(arm, seed),
            log=folder.log(arm, seed),
            steps=recipe.training.steps,
        )
        for seed in seeds
        for arm, recipe in arms.recipes.items()
        if whole_result(folder.run(arm, seed).result) is None
    ]
    failed = train_all(jobs, store.dir.root, store.generation, limit, report)
    if failed:
        lines = "\n".join(f"  - {name}: {message}" for name, message in failed.items())
        raise DataError(
            f"{len(failed)} of {len(jobs)} runs failed, the others have ended:\n{lines}\n"
            "Correct that and run the same command again; what has ended is kept."
        )


def open_run(folder: ComparisonDir, store: Store, arms: Arms, arm: str, seed: int) -> Run:
    """Open a run that has ended; raises DataError for one that has not, or is not the arm's."""
    run = Run(folder.run(arm, seed).root)
    remedy = "Delete the folder and run the same `mads compare` again; it trains it anew."
    if run.result is None:
        raise DataError(f"{run.dir.root} has not ended: it has no result.json. {remedy}")
    changed = differences(to_table(arms.recipe(arm, seed)), to_table(run.recipe))
    found = run.provenance.store, run.provenance.generation
    if found != (store.fingerprint, store.generation):
        changed.append(f"store: {store.fingerprint[:16]} -> {found[0][:16]}")
    if changed:
        raise DataError(
            f"{run.dir.root} is not the run of arm {arm!r} with seed {seed}: "
            f"{'; '.join(changed[:5])}. {remedy}"
        )
    return run
