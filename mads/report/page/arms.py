"""What a page shows of a comparison, finished or still going on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mads.config import Recipe
from mads.errors import DataError, UsageError
from mads.experiments.arms import Arms
from mads.experiments.comparison import SavedArms, read_saved_arms
from mads.layout import ComparisonDir
from mads.recipe import recipe_from_table
from mads.report.compare import Comparison, compare, read_comparison
from mads.run.folder import differences
from mads.run.records import Metrics
from mads.run.result import whole_result
from mads.store.store import Store


@dataclass(frozen=True, slots=True)
class ComparisonData:
    """All that a page shows of a comparison.

    ``progress`` has the runs that there are, by arm and seed: steps done, and whether it has ended.
    """

    name: str
    found: Comparison
    ended: bool  # otherwise ``found`` is of the arms and seeds that have ended so far
    progress: Mapping[tuple[str, int], tuple[int, bool]]
    steps: int
    changes: Mapping[str, tuple[str, ...]]  # arm -> how its recipe differs from the baseline's


def collect_comparison(path: Path, store: Path | None) -> ComparisonData:
    """Read a comparison; one that is still going on needs the store.

    Raises UsageError for a comparison in which nothing can be compared yet, or without the store
    that it needs, DataError for one that is damaged or of another store.
    """
    folder = ComparisonDir(path)
    saved = read_saved_arms(folder)
    assert saved is not None  # the caller has seen it
    recipes = {
        arm: recipe_from_table(dict(table), f"{folder.arms}, arm {arm}")
        for arm, table in saved.arms.items()
    }
    progress = _progress(folder, recipes)
    found, ended = _found(folder, saved, recipes, progress, store)
    base = saved.arms[saved.baseline]
    return ComparisonData(
        name=path.resolve().name,
        found=found,
        ended=ended,
        progress=progress,
        steps=recipes[saved.baseline].training.steps,
        changes={arm: tuple(differences(base, table)) for arm, table in saved.arms.items()},
    )


def _found(
    folder: ComparisonDir,
    saved: SavedArms,
    recipes: Mapping[str, Recipe],
    progress: Mapping[tuple[str, int], tuple[int, bool]],
    store: Path | None,
) -> tuple[Comparison, bool]:
    """Return what was found, and whether it is of all runs."""
    if folder.comparison.is_file():
        found = read_comparison(folder.comparison)
        known = {(arm, seed) for arm in found.arms for seed in found.seeds}
        if store is not None:
            _check_store(folder, Store(store, found.generation), found.store)
        if store is None or known >= progress.keys():
            return found, known >= progress.keys()
    arms, seeds = comparable(saved.baseline, progress)
    if not seeds:
        raise UsageError(
            f"{folder.root} has nothing to compare yet: no seed of the baseline "
            f"{saved.baseline!r} and of another arm has ended. Wait, or give one of its runs."
        )
    if store is None:
        raise UsageError(
            f"{folder.root} has no {folder.comparison.name}: the comparison is still going on. "
            "Add --store STORE to see the runs that have ended."
        )
    opened = Store(store, saved.generation)
    _check_store(folder, opened, saved.store)
    kept = Arms(saved.baseline, {arm: recipes[arm] for arm in recipes if arm in arms})
    return compare(opened, folder, kept, seeds), False


def _check_store(folder: ComparisonDir, store: Store, expected: str) -> None:
    if store.fingerprint != expected:
        raise DataError(
            f"{folder.root} compares arms on another store: found {expected[:16]}, "
            f"{store.dir.root} is {store.fingerprint[:16]}. Give that store as --store."
        )


def _progress(
    folder: ComparisonDir, recipes: Mapping[str, Recipe]
) -> dict[tuple[str, int], tuple[int, bool]]:
    found = {}
    for arm in recipes:
        for path in folder.run(arm, 0).root.parent.glob("seed-*"):
            number = path.name.removeprefix("seed-")
            if path.is_dir() and number.isdecimal():
                run = folder.run(arm, int(number))
                ended = whole_result(run.result) is not None
                found[arm, int(number)] = Metrics(run.metrics).steps_done(), ended
    return found


def comparable(
    baseline: str, progress: Mapping[tuple[str, int], tuple[int, bool]]
) -> tuple[set[str], list[int]]:
    """Return arms and seeds all of whose runs have ended: the choice that has most runs.

    Arms join in the order of how many of the baseline's seeds they share; there are no seeds when
    no other arm shares one.
    """
    ended: dict[str, set[int]] = {}
    for (arm, seed), (_, done) in progress.items():
        if done:
            ended.setdefault(arm, set()).add(seed)
    seeds = ended.pop(baseline, set())
    others = sorted(ended, key=lambda arm: -len(ended[arm] & seeds))
    arms, kept, shared = {baseline}, {baseline}, set[int]()
    for arm in others:
        seeds, arms = seeds & ended[arm], arms | {arm}
        if len(seeds) * len(arms) > len(shared) * len(kept):
            kept, shared = arms, seeds
    return kept, sorted(shared)
