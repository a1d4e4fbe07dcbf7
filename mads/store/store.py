"""The manifest of a store, written last: without it a store is not complete and not read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mads.corpus.tokenizer import StoreTokenizer, open_tokenizer
from mads.corpus.tokens import TokenReader
from mads.errors import DataError, UsageError
from mads.files import LOCK, read_json
from mads.layout import StoreDir
from mads.store.memory import read_memory
from mads.store.sealed import REMEDY, Seal, check_seal, read_sealed
from mads.store.spec import StoreSpec
from mads.types import ROW_BITS, Cells, Labels


class Store:
    """A complete store, read only."""

    generation = 1

    def __init__(self, root: Path) -> None:
        self.dir = StoreDir(root)
        if not self.dir.manifest.is_file():
            raise _no_manifest(self.dir)
        try:
            self.manifest = read_json(self.dir.manifest)
        except DataError as error:
            if self.dir.manifest.is_file():
                raise
            raise _no_manifest(self.dir) from error  # removed just now, by `mads annotate`
        self.spec = StoreSpec.from_json(self.manifest, self.dir.manifest)
        _check_manifest(self.manifest, self.dir.manifest)
        self._tokens: dict[int, TokenReader] = {}

    @property
    def fingerprint(self) -> str:
        """Changes whenever a selection from the store could change."""
        value: str = self.manifest["fingerprint"]
        return value

    @cached_property
    def tokenizer(self) -> StoreTokenizer:
        """The store's tokenizer; raises DataError when it is not the one of the manifest."""
        tokenizer = open_tokenizer(self.dir.tokenizer)
        expected = self.manifest["tokenizer_fingerprint"]
        if tokenizer.fingerprint != expected:
            raise DataError(
                f"{self.dir.tokenizer} is not the tokenizer of this store: "
                f"found {tokenizer.fingerprint[:16]}, expected {expected[:16]}."
            )
        return tokenizer

    @cached_property
    def cells(self) -> Cells:
        """The cell index.

        Raises DataError when it, or the order that belongs to it, is missing, damaged or not the
        one of the manifest.
        """
        table = read_sealed(self.dir.cells, expected=self.seal(self.dir.cells))
        _ = self.order
        agents = self.spec.agents
        missing = [name for name in agents if name not in table.column_names]
        if missing:
            raise DataError(
                f"{self.dir.cells} lacks the agents {missing}; run `mads annotate` again."
            )
        columns = [table[name].to_numpy() for name in agents]
        return Cells(
            agents=tuple(agents),
            categories={name: info.categories for name, info in agents.items()},
            category_CA=_stack(columns, table.num_rows),
            num_docs_C=table["num_docs"].to_numpy().astype("int64"),
            num_tokens_C=table["num_tokens"].to_numpy().astype("int64"),
            first_row_C=table["first_row"].to_numpy().astype("int64"),
        )

    def seal(self, path: Path) -> Seal:
        """Return what the manifest says of a file; raises DataError when it says nothing."""
        name = str(path.relative_to(self.dir.root))
        try:
            return Seal(**self.manifest["content"][name])
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{self.dir.manifest} is damaged: it says nothing of {name}. Run the same `mads "
                "annotate` again; it writes the file anew."
            ) from error

    def documents(self, shard: int) -> pa.Table:
        """Return the table of a shard's documents; raises DataError when it was changed."""
        path = self.dir.documents(shard)
        return read_sealed(path, expected=self.seal(path))

    def memory(self, agent: str, shard: int) -> Labels:
        """Return an agent's labels of a shard; raises DataError when they were changed."""
        path, rows = self.dir.memory_shard(agent, shard), self.spec.shards[shard].num_rows
        header = self.spec.memory_header(agent)
        return read_memory(path, header, shard, rows, self.seal(path))

    @cached_property
    def order(self) -> Path:
        """The order's file; raises DataError when its size or footer is not the manifest's."""
        check_seal(self.dir.order, self.seal(self.dir.order))
        return self.dir.order

    def order_rows(
        self, row_N: NDArray[np.int64], columns: list[str]
    ) -> dict[str, NDArray[np.uint64]]:
        """Return columns of the order at the given rows; only their row groups are read.

        Raises DataError when the order is missing, damaged or not the one of the manifest.
        """
        path = self.order
        try:
            return _order_rows(path, row_N, columns)
        except (OSError, pa.ArrowException, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{path} cannot be read: {reason}. {REMEDY}") from error

    def order_docs(self, row_N: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the documents at rows of the order."""
        return self.order_rows(row_N, ["doc"])["doc"]

    def tokens(self, doc: int) -> tuple[TokenReader, int]:
        """Return the reader of a document's shard, and the document's row in it."""
        shard, row = doc >> ROW_BITS, doc & ((1 << ROW_BITS) - 1)
        if shard not in self._tokens:
            paths = self.dir.tokens_bin(shard), self.dir.tokens_idx(shard)
            self._tokens[shard] = TokenReader(*paths)
        return self._tokens[shard], row


def _order_rows(
    path: Path, row_N: NDArray[np.int64], columns: list[str]
) -> dict[str, NDArray[np.uint64]]:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        ends = np.cumsum(groups)
        group_N = np.searchsorted(ends, row_N, side="right")
        found = {name: np.empty(len(row_N), np.uint64) for name in columns}
        for group in np.unique(group_N).tolist():
            here = group_N == group
            table = file.read_row_group(group, columns=columns)
            inside = row_N[here] - (ends[group] - groups[group])
            for name in columns:
                found[name][here] = table[name].to_numpy()[inside]
    return found


def _stack(columns: list[NDArray[np.uint16]], num_rows: int) -> NDArray[np.uint16]:
    if not columns:
        return np.zeros((num_rows, 0), np.uint16)
    return np.stack(columns, axis=1).astype(np.uint16)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file of a store or run; raises DataError when it is missing or damaged."""
    try:
        return pq.ParquetFile(path).read(columns=columns)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist. Was something deleted?") from error
    except (OSError, pa.ArrowException, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read as Parquet: {reason}") from error


def _check_manifest(manifest: Mapping[str, Any], path: Path) -> None:
    """Raise DataError for a manifest that lacks what a reader of the store needs."""
    kinds: dict[str, type] = {"fingerprint": str, "tokenizer_fingerprint": str}
    kinds |= dict.fromkeys(("documents", "index", "content"), dict)
    flaw = next((name for name, kind in kinds.items() if type(manifest.get(name)) is not kind), "")
    if not flaw:
        counts = ("cells", "docs")
        flaw = next((f"index.{n}" for n in counts if type(manifest["index"].get(n)) is not int), "")
    if flaw:
        raise DataError(
            f"{path} is damaged: it has no {flaw!r}, or of another type. Run the same "
            "`mads annotate` again; it writes the file anew."
        )


def _no_manifest(store: StoreDir) -> Exception:
    if not store.root.exists():
        return UsageError(f"store {store.root} does not exist. `mads annotate` makes one.")
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
