"""Whose a run folder is: its recipe, the store that it reads, and what may not change."""

from __future__ import annotations

import hashlib
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from mads.codec import from_json, to_json
from mads.config import Recipe
from mads.errors import DataError, UsageError
from mads.files import LOCK, PARTIAL, read_sealed_json, unreadable, write_sealed_json, write_text
from mads.layout import RunDir
from mads.provenance import provenance
from mads.recipe import load_recipe, to_table, to_toml
from mads.run.schedule import open_end
from mads.store.store import Store

REMEDY = "Give another --out; what the run has trained stays in its checkpoints."


Maker = Literal["train", "step", "session"]
MAKERS: Mapping[Maker, str] = {
    "train": "`mads train`",
    "step": "`mads step`",
    "session": "a Session",
}
"""Who takes a run's steps, in words: each goes on with its own runs only."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a run was begun on."""

    system: str
    cores: int | None


@dataclass(frozen=True, slots=True)
class Branch:
    """The checkpoint that a run was branched from: of which run, and the sha256 of its recipe."""

    run: str
    step: int
    recipe: str


@dataclass(frozen=True, slots=True)
class RunProvenance:
    """provenance.json: what made the run. It is written last, so without it there is no run."""

    mads: str
    python: str
    packages: Mapping[str, str]
    machine: Machine
    command: tuple[str, ...]
    store: str  # the fingerprint of what the run reads
    generation: int  # of that store
    store_path: str
    recipe: str  # sha256 of recipe.toml
    recipe_before: str = ""  # of the recipe that the run had before it was extended
    branched: Branch | None = None
    maker: Maker = "train"


def read_provenance(run: RunDir) -> RunProvenance:
    """Read provenance.json.

    Raises DataError when it is damaged, or when recipe.toml is not the one that it names.
    """
    value = read_sealed_json(run.provenance, REMEDY)
    found = from_json(RunProvenance, value, run.provenance, "a run's provenance", REMEDY)
    try:
        sha256 = hashlib.sha256(run.recipe.read_bytes()).hexdigest()
    except OSError as error:
        raise unreadable(run.recipe, error, REMEDY) from error
    # A kill while a run was extended may leave the recipe from before, by which it still stands.
    if sha256 not in (found.recipe, found.recipe_before):
        raise DataError(
            f"{run.recipe} was changed: its sha256 is {sha256[:16]}, expected "
            f"{found.recipe[:16]}. Put it back as it was. {REMEDY}"
        )
    return found


def check_folder(
    run: RunDir, store: Store, recipe: Recipe, maker: Maker = "train"
) -> Recipe | None:
    """Raise UsageError or DataError unless a folder is new, or this recipe's and this store's.

    What somebody else has begun is refused: whoever goes on forgets the rounds that it has not come
    to, and these would be the other's.

    Returns the run's own recipe where the given one extends it, and could.
    """
    if not run.provenance.is_file():
        # What a call that was killed at once may leave is no reason to refuse.
        ours = {LOCK, run.recipe.name}
        names = {entry.name for entry in run.root.iterdir() if entry.suffix != PARTIAL}
        if names - ours:
            raise UsageError(f"{run.root} is neither empty nor a run. Give another --out.")
        return None
    found = read_provenance(run)
    if found.maker != maker:
        raise UsageError(
            f"{run.root} is a run of {MAKERS[found.maker]}, and {MAKERS[maker]} cannot go on with "
            "it. Give another --out."
        )
    if (found.store, found.generation) != (store.fingerprint, store.generation):
        raise DataError(
            f"{run.root} was trained on another store: found {found.store[:16]} (generation "
            f"{found.generation}), now {store.fingerprint[:16]} (generation {store.generation}). "
            "Give that store, or another --out."
        )
    changed = differences(tomllib.loads(run.recipe.read_text(encoding="utf-8")), to_table(recipe))
    if not changed:
        return None
    before = load_recipe(run.recipe)
    steps, old = recipe.training.steps, before.training.steps
    longer = replace(before, training=replace(before.training, steps=steps))
    if steps > old and not differences(to_table(longer), to_table(recipe)):
        _refuse_extension(run, before, steps)
        return before
    raise UsageError(
        f"{run.root} was begun with another recipe: {'; '.join(changed[:5])}. "
        "Give the same recipe to go on, or another --out."
    )


def _refuse_extension(run: RunDir, before: Recipe, steps: int) -> None:
    """Raise UsageError where a run cannot become the one that would have had more steps."""
    what = f"{run.root} cannot be extended from {before.training.steps} to {steps} steps"
    if before.training.schedule == "cosine":
        raise UsageError(
            f'{what}: under training.schedule = "cosine" the learning rate of every step follows '
            "from training.steps, so none of its steps is one of the longer run. Give another "
            '--out; a run under "wsd" or "constant" can be extended.'
        )
    end, there = open_end(before), run.checkpoints
    if there and min(there) > end:
        raise UsageError(
            f"{what}: its last step that is also the longer run's is {end} (after it the learning "
            "rate falls, or a round is cut short by the end), and there are checkpoints of step "
            f"{', '.join(map(str, there))} only. Give another --out."
        )


def extend(run: RunDir, store: Store, recipe: Recipe, before: Recipe) -> str:
    """Give a run a recipe with more steps, and let it go on from what both have in common.

    The last checkpoint of a run that had ended is kept under ``RunDir.ended``. Returns what the
    user should know. Killed at any place, the run is of one of the two recipes.
    """
    branched = to_json(read_provenance(run).branched)
    steps, end, there = before.training.steps, open_end(before), run.checkpoints
    told = f"the run is extended from {steps} to {recipe.training.steps} steps."
    if there and there[-1] > end:
        start = max(step for step in there if step <= end)
        write_text(run.latest, run.checkpoint(start).name + "\n")
        told += f" What came after step {start} is not part of the longer run."
        if there[-1] == steps:
            run.ended(steps).parent.mkdir(exist_ok=True)
            run.checkpoint(steps).replace(run.ended(steps))
            told += f" The model of step {steps} is kept in {run.ended(steps)}."
    text = to_toml(to_table(recipe))
    sha256 = hashlib.sha256(run.recipe.read_bytes()).hexdigest()
    _write_provenance(run, store, text, recipe_before=sha256, branched=branched)
    write_text(run.recipe, text)
    return told


def differences(old: Mapping[str, Any], new: Mapping[str, Any], place: str = "") -> list[str]:
    """Return ``key: old -> new`` for every key in which two tables of a recipe differ."""
    found = []
    for key in {**old, **new}:
        before, now = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            found += differences(before, now, f"{place}{key}.")
        elif (list(before) if isinstance(before, tuple) else before) != (
            list(now) if isinstance(now, tuple) else now
        ):
            found.append(f"{place}{key}: {before!r} -> {now!r}")
    return found


def begin(
    run: RunDir,
    store: Store,
    recipe: Recipe,
    branched: Branch | None = None,
    maker: Maker = "train",
) -> None:
    """Make the folder this recipe's and this store's."""
    if run.provenance.is_file():
        return
    text = to_toml(to_table(recipe))
    write_text(run.recipe, text)
    _write_provenance(run, store, text, branched=to_json(branched), maker=maker)


def _write_provenance(run: RunDir, store: Store, text: str, **extra: Any) -> None:
    facts = {
        **provenance(),
        "store": store.fingerprint,
        "generation": store.generation,
        "store_path": str(store.dir.root),
        "recipe": hashlib.sha256(text.encode()).hexdigest(),
        **extra,
    }
    found = from_json(RunProvenance, facts, run.provenance, "a run's provenance", REMEDY)
    write_sealed_json(run.provenance, to_json(found))


def forget_after(run: RunDir, number: int) -> None:
    """Remove what a run that goes on from round ``number`` has not come to yet.

    That is later rounds, the generations that were made with them, and the result.
    """
    run.result.unlink(missing_ok=True)
    for of in (run.round(0).root.parent, run.refresh(0).root.parent):
        for folder in sorted(of.glob("[0-9]*")):
            if int(folder.name) > number:
                shutil.rmtree(folder)
