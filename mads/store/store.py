"""A complete store, read only: one generation of it, and everything that is read verified."""

from __future__ import annotations

from collections import OrderedDict
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mads.codec import from_json
from mads.corpus.tokenizer import StoreTokenizer, open_tokenizer
from mads.corpus.tokens import TokenChecks, TokenReader
from mads.errors import DataError
from mads.files import LOCK, read_sealed_json
from mads.index.cells import read_cells
from mads.index.order import Order
from mads.layout import RefreshDir, StoreDir, check_kind
from mads.sealed import REMEDY, Seal, check_seal
from mads.store.documents import Documents, read_documents, read_ids
from mads.store.manifest import Generation, Manifest, read_manifest
from mads.store.memory import read_memory
from mads.store.refreshed import read_refreshed, refreshed_remedy
from mads.store.spec import StoreSpec
from mads.types import ROW_BITS, Cells, Labels, doc_id

OPEN_SHARDS = 64
"""Shards whose tokens are open at a time: two files each, far below any limit of open files."""

_ROW = (1 << ROW_BITS) - 1


class Store:
    """One generation of a store: the current one, or the one that a run names.

    Raises UsageError or DataError when there is none, or the manifest is damaged.
    """

    def __init__(self, root: Path, generation: int | None = None) -> None:
        self.dir = StoreDir(root)
        self.manifest = _open_manifest(self.dir)
        self.generation = generation or self.manifest.generation
        if str(self.generation) not in self.manifest.generations:
            raise DataError(
                f"{root} has no generation {self.generation}, found "
                f"{', '.join(self.manifest.generations)}. Was it made anew? Give the store that "
                "the run was trained on."
            )
        self.spec: StoreSpec = self.manifest.at(self.generation)
        self.index = self.dir.index(self.generation)
        self.facts: Generation = self.manifest.generations[str(self.generation)]
        self.base = self
        self._tokens: OrderedDict[int, TokenReader] = OrderedDict()
        self._checks: dict[int, TokenChecks] = {}

    def refreshed(self, own: RefreshDir) -> Store:
        """Return the store as a run sees it that has made a generation of it for itself.

        Cells, order and one agent's memory are the run's; documents, tokens and all else are the
        store's, and what is open of them is shared. Raises DataError when the run's files are
        damaged or of another store.
        """
        found = copy(self)
        found.dir, found.index = StoreDir(self.dir.root, own), own
        found.facts = read_refreshed(found.dir, own, self.base.fingerprint)
        found.spec = replace(self.spec, agents=found.facts.agents)
        for name in ("cells", "content", "order"):
            found.__dict__.pop(name, None)
        return found

    @property
    def refresh(self) -> int:
        """The round with which a run has made the generation; 0 for one of the store's own."""
        return 0 if self.dir.own is None else self.dir.own.number

    @property
    def fingerprint(self) -> str:
        """Changes whenever a selection from the store could change."""
        return self.facts.fingerprint

    @cached_property
    def tokenizer(self) -> StoreTokenizer:
        """The store's tokenizer; raises DataError when it is not the one of the manifest."""
        for path in sorted(self.dir.tokenizer.rglob("*")):
            if path.is_file() and self.dir.name_of(path) in self.content:
                check_seal(path, self.seal(path))
        tokenizer = open_tokenizer(self.dir.tokenizer)
        expected = self.manifest.tokenizer_fingerprint
        if tokenizer.fingerprint != expected:
            raise DataError(
                f"{self.dir.tokenizer} is not the tokenizer of this store: found "
                f"{tokenizer.fingerprint[:16]}, expected {expected[:16]}. Put the old one back."
            )
        return tokenizer

    @cached_property
    def cells(self) -> Cells:
        """The cells; raises DataError when they were changed."""
        path = self.index.cells
        return read_cells(path, self.spec.categories, self.seal(path), self.remedy(path))

    @cached_property
    def content(self) -> dict[str, Seal]:
        """The seals of all files that the generation was made from, by path in the store."""
        path = self.index.content
        check_seal(path, self.facts.files[self.dir.name_of(path)], self.remedy(path))
        value = read_sealed_json(path, self.remedy(path))
        seals: dict[str, Seal] = {}
        for name, item in value.items():
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise DataError(f"{path} names a file outside of the store: {name!r}. {REMEDY}")
            seals[name] = from_json(Seal, item, path, "a list of seals", REMEDY)
        return seals

    def seal(self, path: Path) -> Seal:
        """Return what the store says of a file; raises DataError when it says nothing."""
        name = self.dir.name_of(path)
        found = self.facts.files.get(name) or self.content.get(name)
        if found is None:
            raise DataError(
                f"{self.dir.manifest} says nothing of {name} in generation {self.generation}. "
                "Run the same `mads annotate` again; it writes the file anew."
            )
        return found

    def documents(self, shard: int) -> Documents:
        """Return the table of a shard's documents; raises DataError when it was changed."""
        path = self.dir.documents(shard)
        return read_documents(path, shard, self.spec.shards[shard].num_rows, self.seal(path))

    def ids(self, doc_N: NDArray[np.uint64]) -> list[str | None]:
        """Return the user's ids of documents; None where one has none, or the store keeps none.

        Raises DataError when a table of documents was changed.
        """
        found: list[str | None] = [None] * len(doc_N)
        if not self.spec.id_field:
            return found
        shard_N = (doc_N >> np.uint64(ROW_BITS)).astype(np.int64)
        for shard in np.unique(shard_N).tolist():
            path = self.dir.documents(shard)
            ids = read_ids(path, self.seal(path))
            for place in np.flatnonzero(shard_N == shard).tolist():
                found[place] = ids[int(doc_N[place]) & _ROW]
        return found

    def memory(self, agent: str, shard: int) -> Labels:
        """Return an agent's labels of a shard; raises DataError when they were changed."""
        path = self.dir.memory_shard(self.spec.agents[agent].folder, shard)
        header, rows = self.spec.memory_header(agent, shard), self.spec.shards[shard].num_rows
        return read_memory(path, header, shard, rows, self.seal(path), self.remedy(path))

    def remedy(self, path: Path) -> str:
        """Return what to do when a file of the store is lost or damaged."""
        if self.dir.own is not None and path.is_relative_to(self.dir.own.root):
            return refreshed_remedy(self.dir.own)
        for agent, info in self.spec.agents.items():
            if path.parent == self.dir.memory(info.folder):
                return self.manifest.memory_remedy(self.generation, agent)
        return REMEDY

    @cached_property
    def order(self) -> Order:
        """The order; raises DataError when its size or footer is not the manifest's."""
        seals = self.seal(self.index.order), self.seal(self.index.order_sums)
        return Order(self.index, *seals, self.remedy(self.index.order))

    def tokens(self, doc: int) -> tuple[TokenReader, int]:
        """Return the reader of a document's shard, and the document's row in it."""
        shard, row = doc >> ROW_BITS, doc & _ROW
        reader = self._tokens.get(shard)
        if reader is None:
            reader = self._open_tokens(shard)
            self._tokens[shard] = reader
            if len(self._tokens) > OPEN_SHARDS:
                self._tokens.popitem(last=False)[1].close()
        else:
            self._tokens.move_to_end(shard)
        return reader, row

    def text(self, doc: int) -> str:
        """Return a document's text, put together from its tokens."""
        reader, row = self.tokens(doc)
        text: str = self.tokenizer.tokenizer.decode(reader.row(row).tolist()[:-1])  # not its end
        return text

    def texts(self, doc_N: NDArray[np.uint64]) -> list[str]:
        """Return the texts of documents, as ``text`` does one by one."""
        rows = (self.tokens(doc) for doc in doc_N.tolist())
        tokens = [reader.row(row).tolist()[:-1] for reader, row in rows]
        found: list[str] = self.tokenizer.tokenizer.decode_batch(tokens)
        return found

    def _open_tokens(self, shard: int) -> TokenReader:
        paths = self.dir.tokens_bin(shard), self.dir.tokens_idx(shard)
        if shard not in self._checks:
            sums = self.dir.tokens_sum(shard)
            check_seal(sums, self.seal(sums))
            self._checks[shard] = TokenChecks(*paths)
        return TokenReader(*paths, self._checks[shard])

    @cached_property
    def _segments(self) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
        """Return each segment's first document, its file and its first row there."""
        firsts, files, rows = [], [], []
        for number, shard in enumerate(self.spec.shards):
            at = 0
            for segment in shard.segments:
                firsts.append(doc_id(number, at))
                files.append(segment.file)
                rows.append(segment.first_row)
                at += segment.num_rows
        return np.array(firsts, np.uint64), np.array(files), np.array(rows)

    def locate(self, doc_N: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return each document's corpus file (its place in ``spec.files``) and its row there."""
        first_S, file_S, row_S = self._segments
        segment_N = np.searchsorted(first_S, doc_N, side="right") - 1
        inside_N = (doc_N - first_S[segment_N]).astype(np.int64)
        return file_S[segment_N], row_S[segment_N] + inside_N

    def document_at(self, file: int, row: int) -> int | None:
        """Return the number of a corpus row's document, or None when the file has no such row."""
        for number, shard in enumerate(self.spec.shards):
            at = 0
            for segment in shard.segments:
                inside = row - segment.first_row
                if segment.file == file and 0 <= inside < segment.num_rows:
                    return doc_id(number, at + inside)
                at += segment.num_rows
        return None


def _open_manifest(store: StoreDir) -> Manifest:
    if not store.manifest.is_file():
        check_kind(store.root, "a store")
        raise _no_manifest(store)
    return read_manifest(store)


def _no_manifest(store: StoreDir) -> DataError:
    begun = {entry.name for entry in store.root.iterdir()} == {LOCK}
    if store.spec.is_file() or begun:
        return DataError(
            f"{store.root} is not complete: it has no {store.manifest.name}. "
            "Run the same `mads annotate` again; it goes on where it was."
        )
    return DataError(
        f"{store.root} is not a store: it has no {store.manifest.name}. "
        "Give the folder that `mads annotate --out` wrote."
    )
