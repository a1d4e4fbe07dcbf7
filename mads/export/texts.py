"""The selected rows in the corpus's own layout: its files, less the rows that are not selected.

Files of columns (Parquet, Arrow) come back as Parquet with their own schema, all else as jsonl.zst:
JSON lines with their own bytes, the rows of a CSV file and a text file as one object each. Names
and folders are those of the corpus below what all its files share.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mads.corpus.files import CorpusFile
from mads.corpus.places import Place, Remote, inside, sha256_of, size_of
from mads.corpus.readers import reader_of, suffix_of
from mads.corpus.readers.columns import ColumnsReader
from mads.corpus.readers.reader import RowFormat
from mads.errors import DataError
from mads.files import atomic_path, reason_of, unreadable
from mads.store.store import Store

GROUP_ROWS, GROUP_BYTES = 65_536, 64 * 1024 * 1024  # of a row group that is written


def relative_path(store: Store, number: int) -> Path:
    """Return a corpus file's path below the corpus's folder; raises DataError for no such path."""
    name = store.spec.files[number].path
    path = Path(os.path.normpath(name))  # names only: `..` behind a link may lead elsewhere
    if path.is_absolute() or not path.name or ".." in path.parts:
        raise DataError(
            f"{store.dir.manifest} names the corpus file {name}, which leads out of the corpus. "
            "Run `mads annotate` with another --out."
        )
    return path


def corpus_path(store: Store, number: int, root: Place) -> Place:
    """Return a corpus file below the folder that the user gives.

    Raises DataError when it is not there, or is a link that leads out of the folder.
    """
    if isinstance(root, Remote):
        return inside(root, str(relative_path(store, number)))
    path = root / relative_path(store, number)
    try:
        found, top = path.resolve(strict=True), root.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # not there, or a circle of links
        raise DataError(
            f"{path} cannot be opened, so its texts cannot be written: "
            f"{reason_of(error) if isinstance(error, OSError) else error}. Give the folder in "
            f"which the corpus is now: {flag(store)}, say."
        ) from error
    if not found.is_relative_to(top):
        raise DataError(
            f"{path} leads out of {root}, to {found}. Give a --corpus that holds both, or put a "
            "copy in the link's place."
        )
    return path


def flag(store: Store) -> str:
    """Return the option that names the corpus's folder as the manifest does."""
    return f"--corpus {shlex.quote(store.spec.root)}"


def text_paths(store: Store) -> list[Path]:
    """Return for each corpus file where its selected rows go, relative to the export's folder.

    Names depend on the files before alone, so they stay when the store grows.
    """
    taken: set[Path] = set()
    folders = {Path(): Path()}

    def folder_of(path: Path) -> Path:
        """Return where a folder goes; x.jsonl may have got the name of x.jsonl.zst/."""
        if path not in folders:
            folders[path] = _take(taken, folder_of(path.parent), path.name, "")
        return folders[path]

    targets = []
    for number in range(len(store.spec.files)):
        path = relative_path(store, number)
        suffix = suffix_of(path) or ""
        ending = ".parquet" if isinstance(reader_of(path), ColumnsReader) else ".jsonl.zst"
        stem = path.name.removesuffix(suffix)
        targets.append(_take(taken, folder_of(path.parent), stem, ending))
    return targets


def _take(taken: set[Path], folder: Path, stem: str, ending: str) -> Path:
    """Return the first of x, x-2, x-3, … that is not taken, and take it."""
    target, count = folder / f"{stem}{ending}", 1
    while target in taken:  # x.jsonl and x.jsonl.gz
        count += 1
        target = folder / f"{stem}-{count}{ending}"
    taken.add(target)
    return target


def write_texts(
    store: Store,
    doc_N: NDArray[np.uint64],
    root: Place,
    out: Path,
    on_progress: Callable[[int, int], None],
) -> list[Path]:
    """Write the selected rows as they stand in the corpus, one file per corpus file that has any.

    A document keeps its place among its file's rows. The corpus lies below ``root``. Raises
    DataError when a corpus file is gone or has changed since ``mads annotate``.
    """
    file_N, row_N = store.locate(doc_N)
    row_format = RowFormat(max_doc_bytes=store.spec.max_doc_bytes)
    targets = text_paths(store)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    files = np.unique(file_N).tolist()
    for done, number in enumerate(files):
        source = corpus_path(store, number, root)
        _check_content(source, store.spec.files[number])
        rows = np.sort(row_N[file_N == number])
        written.append(out / targets[number])
        with atomic_path(written[-1]) as partial:
            reader = reader_of(source)
            if isinstance(reader, ColumnsReader):
                _write_parquet(reader, source, rows, partial)
            else:
                name = store.spec.files[number].path
                _write_lines(reader.lines(source, name, rows.tolist(), row_format), partial)
        on_progress(done + 1, len(files))
    return written


def _check_content(path: Place, file: CorpusFile) -> None:
    """Raise DataError unless a corpus file has the bytes that were annotated."""
    try:
        size = size_of(path)
        found = sha256_of(path) if size == file.size else ""
    except OSError as error:
        raise unreadable(str(path), error, "Put the file back.") from error
    if size != file.size:
        what = f"it has {size} bytes, expected {file.size}"
    elif found != file.sha256:
        what = f"its sha256 is {found[:16]}, expected {file.sha256[:16]}"
    else:
        return
    raise DataError(
        f"{path} has changed since the store was made ({what}), so its texts cannot be written. "
        "Put the file back, or annotate the corpus as it is now into another store."
    )


def _write_lines(lines: Iterator[bytes], path: Path) -> None:
    with pa.output_stream(str(path), compression="zstd") as stream:
        for line in lines:
            stream.write(line + b"\n")


def _write_parquet(
    reader: ColumnsReader, source: Place, rows: NDArray[np.int64], path: Path
) -> None:
    """Copy rows (ascending) of a file of columns; a few of them are held at a time."""
    with pq.ParquetWriter(path, reader.schema(source), compression="zstd") as writer:
        held: list[pa.RecordBatch] = []
        for batch in _chosen_rows(reader, source, rows):
            held.append(batch)
            num_rows = sum(len(part) for part in held)
            if num_rows >= GROUP_ROWS or sum(part.nbytes for part in held) >= GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(held))
                held = []
        if held:
            writer.write_table(pa.Table.from_batches(held))


def _chosen_rows(
    reader: ColumnsReader, source: Place, rows: NDArray[np.int64]
) -> Iterator[pa.RecordBatch]:
    """Yield the given rows (ascending); what is stored without any of them is not read."""

    def place(start: int, stop: int) -> tuple[int, int]:
        low, high = np.searchsorted(rows, [start, stop]).tolist()
        return low, high

    def wanted(start: int, stop: int) -> bool:
        low, high = place(start, stop)
        return low < high

    for start, batch in reader.batches(source, None, wanted):
        low, high = place(start, start + len(batch))
        if low < high:
            yield batch.take(pa.array(rows[low:high] - start))
