"""The section of a table, and the agent or scorer that it makes.

table files ─ values ─▶ one number each: a category's place, or a score; NaN where there is none
                             │ by_id.py: hash of the id, sorted, on disk
documents ─ id or file, row ─┤
                             │ by_row.py: read along with the corpus
                             ▼
                   a number for each document ─▶ category, or bin
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mads.agents.agent import Backend, FixedBins, QuantileBins, bin_names, fingerprint
from mads.agents.column import ColumnConfig, problems, refuse
from mads.agents.table.by_id import IdIndex
from mads.agents.table.by_row import RowOrder
from mads.agents.table.files import Table, Values
from mads.errors import DataError
from mads.types import FILE, ID, ROW, Agent, DocumentBatch, Labels, Scores
from mads.units import shorten


@dataclass(frozen=True, slots=True)
class TableConfig(ColumnConfig):
    """``table``: a field of files beside the corpus, or of Dolma's attribute files."""

    # Files, folders, patterns: .jsonl, .parquet and whatever else a corpus may be
    files: tuple[str, ...] = ()
    # Dotted path to the id, matched with corpus.id_field; without it the table has the rows of the
    # corpus in their order, in files of the same names
    id: str = ""
    attribute: str = ""  # instead of ``field``: of Dolma, such as exp__tagger__label
    # Category of documents that the table says nothing of; it is added to the categories. Without
    # it these get the category ``other``, and without that they are an error
    missing: str = ""


def open_table(name: str, config: TableConfig) -> Agent | QuantileBins:
    """Open the agent of a section; the table is read when the agent is prepared.

    Raises UsageError that lists every problem of the section, or for files that do not exist.
    """
    refuse(name, _problems(config))
    names = bin_names(config.categories, config.quantiles)
    missing = config.missing or config.other
    everything = (*names, missing) if missing and missing not in names else names
    table = Table(name, config.files, _values(name, config))
    found = Found(name, config, table)
    if config.quantiles:
        return QuantileBins(name, TableScorer(found), names, missing or None)
    nothing = everything.index(missing) if missing else 0
    if config.edges:
        return FixedBins(name, TableScorer(found), everything, config.edges, nothing)
    return TableAgent(found, everything, nothing)


BACKEND = Backend(TableConfig, open_table)


def _values(name: str, config: TableConfig) -> Values:
    index: dict[str, int] | None = None
    if not config.edges and not config.quantiles:
        place = {category: i for i, category in enumerate(config.categories)}
        index = place | {value: place[to] for value, to in config.rename.items()}
    other = config.categories.index(config.other) if index is not None and config.other else None
    attribute = config.attribute
    return Values(name, config.field, attribute, config.id, index, other, bool(config.other))


def _problems(config: TableConfig) -> list[str]:
    found = problems(config, [])
    if not config.files:
        found.append("files: the back-end 'table' needs the files of the table")
    if bool(config.field) == bool(config.attribute):
        found.append("field: give the dotted path of a field, or `attribute`; one of them")
    if config.attribute and not config.edges and not config.quantiles:
        found.append("attribute: its values are scores; give edges or quantiles")
    return found


class Found:
    """What a table says of documents, one number for each."""

    def __init__(self, name: str, config: TableConfig, table: Table) -> None:
        self.name = name
        checked = bool(config.attribute) and not config.id
        by_row = (FILE, ROW, ID) if checked else (FILE, ROW)
        self.fields: tuple[str, ...] = (ID,) if config.id else by_row
        self._refused = not (config.missing or config.other)
        self._config, self._table = config, table
        self._source: IdIndex | RowOrder | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Return what changes with any answer: the content of the files, and how it is read."""
        named = not self._config.id
        keys = {f.name: getattr(self._config, f.name) for f in dataclasses.fields(self._config)}
        del keys["files"]
        keys["rename"] = sorted(self._config.rename.items())
        return fingerprint("table", sorted(keys.items()), self._table.content(named=named))

    def prepare(self, folder: Path, files: Mapping[str, int]) -> None:
        """Look at the whole table once, and at how it fits the corpus."""
        if self._config.id:
            self._source = IdIndex.open(folder, self._table)
        else:
            self._source = RowOrder.open(folder, self._table, files)

    def of(self, batch: DocumentBatch) -> NDArray[np.float32]:
        """Return the number of each of N documents; NaN where the table has none.

        Raises DataError where there must be one.
        """
        assert self._source is not None, "prepared"
        value_N = self._source.of(batch)
        lacking = np.flatnonzero(np.isnan(value_N))
        if self._refused and len(lacking):
            raise self._lacks(batch, lacking)
        return value_N

    def _lacks(self, batch: DocumentBatch, lacking_M: NDArray[np.intp]) -> DataError:
        first = int(lacking_M[0])
        if self._config.id:
            found = batch.fields[ID][first]
            which = "a document without an id" if found is None else f"the id {shorten(found)}"
        else:
            which = f"row {batch.fields[ROW][first]}"
        return DataError(
            f"agent {self.name!r}: the table {self._table.shown} says nothing of {len(lacking_M)} "
            f"of {len(batch)} documents here, first {which}. Complete the table, or set "
            f'agents.{self.name}.missing = "unknown", a category for such documents.'
        )


class TableAgent:
    """A category from a table; the score is 1, or 0 where the table says nothing."""

    def __init__(self, found: Found, categories: tuple[str, ...], nothing: int) -> None:
        self.name, self.fields = found.name, found.fields
        self.categories = categories
        self._found, self._nothing = found, nothing

    @cached_property
    def fingerprint(self) -> str:
        """Return what changes with any label."""
        return fingerprint(self._found.fingerprint, self.categories, self._nothing)

    def prepare(self, folder: Path, files: Mapping[str, int]) -> None:
        """Look at the whole table once, and at how it fits the corpus."""
        self._found.prepare(folder, files)

    def label(self, batch: DocumentBatch) -> Labels:
        """Label N documents; raises DataError for one that the table must know and does not."""
        value_N = self._found.of(batch)
        is_known_N = ~np.isnan(value_N)
        category_N = np.where(is_known_N, value_N, self._nothing).astype(np.uint16)
        return Labels(category_N, is_known_N.astype(np.float32))


class TableScorer:
    """A number from a table."""

    def __init__(self, found: Found) -> None:
        self.fields = found.fields
        self._found = found

    @cached_property
    def fingerprint(self) -> str:
        """Return what changes with any score."""
        return self._found.fingerprint

    def prepare(self, folder: Path, files: Mapping[str, int]) -> None:
        """Look at the whole table once, and at how it fits the corpus."""
        self._found.prepare(folder, files)

    def score(self, batch: DocumentBatch) -> Scores:
        """Score N documents; raises DataError for one that the table must know and does not."""
        value_N = self._found.of(batch)
        return Scores(np.nan_to_num(value_N), ~np.isnan(value_N))
