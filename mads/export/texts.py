"""The selected rows in the corpus's own layout: its files, less the rows that are not selected.

A Parquet file comes back as Parquet with its own schema, JSON lines as jsonl.zst with their own
bytes. Names and folders are those of the corpus below what all its files share.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mads.corpus.files import CorpusFile, suffix_of
from mads.corpus.rows import RowFormat, raw_lines
from mads.errors import DataError
from mads.files import PARTIAL, atomic_path
from mads.store.store import Store

READ_ROWS = 64  # of Parquet at a time, as documents may be megabytes long
GROUP_ROWS, GROUP_BYTES = 65_536, 64 * 1024 * 1024  # of a row group that is written


def text_paths(store: Store) -> list[Path]:
    """Return for each corpus file where its selected rows go, relative to the export's folder."""
    # Names only: a link, or `..` behind one, may lead elsewhere than its text says.
    sources = [Path(os.path.normpath(file.path)) for file in store.spec.files]
    root = os.path.commonpath([path.parent for path in sources])
    found: dict[Path, None] = {}
    for source in sources:
        path = source.relative_to(root)
        suffix = suffix_of(path) or ""
        ending = suffix if suffix == ".parquet" else ".jsonl.zst"
        stem = path.name.removesuffix(suffix)
        target, number = path.with_name(stem + ending), 1
        while target in found:  # x.jsonl and x.jsonl.gz
            number += 1
            target = path.with_name(f"{stem}-{number}{ending}")
        found[target] = None
    return list(found)


def only_texts(folder: Path, store: Store) -> bool:
    """Return whether a folder, if there is one, holds nothing but this store's exported texts."""
    if folder.is_symlink() or not folder.is_dir():
        return not os.path.lexists(folder)
    known = {folder / path for path in text_paths(store)}
    known |= {path.with_name(path.name + PARTIAL) for path in known}
    return all(path in known for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def write_texts(
    store: Store, doc_N: NDArray[np.uint64], out: Path, on_progress: Callable[[int, int], None]
) -> list[Path]:
    """Write the selected rows as they stand in the corpus, one file per corpus file that has any.

    A document keeps its place among its file's rows. Raises DataError when a corpus file is gone
    or has changed since ``mads annotate``.
    """
    file_N, row_N = store.locate(doc_N)
    max_doc_bytes = store.spec.max_doc_bytes
    targets = text_paths(store)
    written = []
    files = np.unique(file_N).tolist()
    for done, number in enumerate(files):
        source = _unchanged(store.spec.files[number])
        rows = np.sort(row_N[file_N == number])
        written.append(out / targets[number])
        with atomic_path(written[-1]) as partial:
            if suffix_of(source) == ".parquet":
                _write_parquet(source, rows, partial)
            else:
                _write_lines(source, rows, partial, max_doc_bytes)
        on_progress(done + 1, len(files))
    return written


def _unchanged(file: CorpusFile) -> Path:
    path = Path(file.path)
    if not path.is_file() or path.stat().st_size != file.size:
        raise DataError(
            f"{path} is gone or has changed since the store was made (expected "
            f"{file.size} bytes), so its texts cannot be written. If it was moved, run the same "
            "`mads annotate` on its new place."
        )
    return path


def _write_lines(source: Path, rows: NDArray[np.int64], path: Path, max_doc_bytes: int) -> None:
    with pa.output_stream(str(path), compression="zstd") as stream:
        row_format = RowFormat(max_doc_bytes=max_doc_bytes)
        for line in raw_lines(source, rows.tolist(), row_format.max_line_bytes):
            stream.write(line + b"\n")


def _write_parquet(source: Path, rows: NDArray[np.int64], path: Path) -> None:
    """Copy rows (ascending) of a Parquet file; a few of them are held at a time."""
    with (
        pq.ParquetFile(source) as file,
        pq.ParquetWriter(path, file.schema_arrow, compression="zstd") as writer,
    ):
        held: list[pa.RecordBatch] = []
        for batch in _parquet_rows(file, rows):
            held.append(batch)
            num_rows = sum(len(part) for part in held)
            if num_rows >= GROUP_ROWS or sum(part.nbytes for part in held) >= GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(held))
                held = []
        if held:
            writer.write_table(pa.Table.from_batches(held))


def _parquet_rows(file: pq.ParquetFile, rows: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    """Yield the given rows (ascending); only their row groups are read."""
    start = 0
    for group in range(file.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        low, high = np.searchsorted(rows, [start, stop])
        if low < high:
            for batch in file.iter_batches(READ_ROWS, row_groups=[group]):
                low, high = np.searchsorted(rows, [start, start + len(batch)])
                if low < high:
                    yield batch.take(pa.array(rows[low:high] - start))
                start += len(batch)
        start = stop
