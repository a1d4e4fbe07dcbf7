"""What is asked of annotate, and what it comes to: read only, but for a manifest put together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mads.agents import open_agent
from mads.agents.agent import QuantileBins
from mads.annotate.checks import check_corpus, with_fields
from mads.annotate.growth import Before, look, next_spec, scan_files
from mads.annotate.seen import Seen
from mads.annotate.verify import check_files
from mads.config import Recipe
from mads.corpus.files import Found, find_files
from mads.corpus.look import layout_of
from mads.errors import DataError
from mads.files import LOCK, PARTIAL
from mads.layout import StoreDir, refuse_inside
from mads.store.spec import StoreSpec
from mads.types import Agent, Report


@dataclass(frozen=True, slots=True)
class Asked:
    """A corpus, a recipe, and the store that they are to become."""

    given: Found
    store: StoreDir
    recipe: Recipe
    agents: Mapping[str, Agent | QuantileBins]
    workers: int
    verify: bool = False  # read and compare every file, whatever is noted of it


@dataclass(frozen=True, slots=True)
class Work:
    """What a call comes to: ``spec`` is what the store is to be made from."""

    asked: Asked
    before: Before
    spec: StoreSpec
    seen: Seen
    recipe: Recipe  # with the field of ids
    layout: str  # of the corpus, where it is a known one
    skipped: Sequence[str]  # what is said of files without a text

    @property
    def store(self) -> StoreDir:
        """The store's files."""
        return self.asked.store


def ask(paths: Sequence[Path | str], out: Path, recipe: Recipe, *, verify: bool = False) -> Asked:
    """Find the corpus's files and open the agents; raises UsageError for what cannot be used."""
    given = find_files(paths)
    agents = {name: open_agent(name, config) for name, config in recipe.agents.items()}
    workers = recipe.corpus.workers or os.cpu_count() or 1
    refuse_inside(out)
    return Asked(given, StoreDir(out), recipe, agents, workers, verify)


def survey(asked: Asked, on_progress: Report, *, check_store: bool = True) -> Work:
    """Look at the corpus and at what the store was before.

    Files that were seen before are not read again. With ``check_store`` the store's own are
    compared too. Raises DataError for damaged data, or for what the store cannot become.
    """
    store = asked.store
    refuse_foreign(store)
    before, seen = look(store), Seen(store.seen, trust=not asked.verify)
    if check_store and before.manifest is not None:
        check_files(store, before.manifest, seen, on_progress)
    layout = layout_of(asked.given.files)
    recipe = with_fields(asked.recipe, before, layout)
    files = asked.given.files
    found = scan_files(files, before.spec, seen, recipe, asked.workers, on_progress)
    checked = check_corpus(found, before, recipe, asked.agents, asked.workers)
    spec = next_spec(store, before, asked.given.root, checked.files, recipe, asked.agents)
    name = layout.name if layout is not None else ""
    return Work(asked, before, spec, seen, recipe, name, checked.skipped)


def refuse_foreign(store: StoreDir) -> None:
    """Raise DataError for a folder that holds something else."""
    of_a_beginning = {LOCK, store.spec.name + PARTIAL, store.seen.name}
    ours = store.spec.is_file() or store.manifest.is_file()
    if ours or not store.root.is_dir():
        return
    if {p.name for p in store.root.iterdir()} - of_a_beginning:
        raise DataError(
            f"{store.root} is neither empty nor a store (it has no {store.manifest.name}). "
            "Give another --out."
        )
