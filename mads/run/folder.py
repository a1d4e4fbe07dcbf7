"""Whose a run folder is, and what a recipe may not ask of it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from mads.config import Recipe
from mads.errors import DataError, UsageError
from mads.files import LOCK, PARTIAL, read_json, write_json, write_text
from mads.layout import RunDir
from mads.provenance import provenance
from mads.recipe import to_table, to_toml
from mads.store.store import Store


def check_folder(run: RunDir, store: Store, recipe: Recipe) -> None:
    """Raise UsageError or DataError unless a folder is new, or this recipe's and this store's."""
    if not run.recipe.is_file():
        # What a call that was killed at once may leave is no reason to refuse.
        ours = {LOCK, run.provenance.name}
        names = {entry.name for entry in run.root.iterdir() if entry.suffix != PARTIAL}
        if names - ours:
            raise UsageError(f"{run.root} is neither empty nor a run. Give another --out.")
        return
    found = read_json(run.provenance).get("store", "nothing")
    if found != store.fingerprint:
        raise DataError(
            f"{run.root} was trained on another store: found {found[:16]}, now "
            f"{store.fingerprint[:16]}. Give that store, or another --out."
        )
    changed = _changes(tomllib.loads(run.recipe.read_text(encoding="utf-8")), to_table(recipe))
    if changed:
        raise UsageError(
            f"{run.root} was begun with another recipe: {'; '.join(changed[:5])}. "
            "Give the same recipe to go on, or another --out."
        )


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], place: str = "") -> list[str]:
    """Return ``key: old -> new`` for every key in which two tables differ."""
    found = []
    for key in {**old, **new}:
        before, now = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            found += _changes(before, now, f"{place}{key}.")
        elif (list(before) if isinstance(before, tuple) else before) != (
            list(now) if isinstance(now, tuple) else now
        ):
            found.append(f"{place}{key}: {before!r} -> {now!r}")
    return found


def begin(run: RunDir, store: Store, recipe: Recipe) -> None:
    """Make the folder this recipe's and this store's."""
    if not run.recipe.is_file():
        facts = provenance(store=store.fingerprint, store_path=str(store.dir.root))
        write_json(run.provenance, facts)
        write_text(run.recipe, to_toml(to_table(recipe)))
