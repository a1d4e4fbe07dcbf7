"""Which files make up a corpus, and what is in them: one pass that counts and fingerprints.

The pass reads every byte once, so a truncated or foreign file is found before any work is done.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mads.errors import DataError, UsageError
from mads.files import PARTIAL, file_sha256
from mads.layout import kind_of
from mads.processes import end_with_parent, worker_pool

COMPRESSION = {".jsonl": None, ".jsonl.gz": "gzip", ".jsonl.zst": "zstd"}
SUFFIXES = (*COMPRESSION, ".parquet")
CHUNK_BYTES = 1024 * 1024
INLINE_BYTES = 32 * 1024 * 1024  # of all files; starting processes takes longer than to read these
HEAD_BYTES = 4096
BOM = b"\xef\xbb\xbf"  # some editors begin a UTF-8 file with it; it is no part of the first line


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """One corpus file: its size and rows, and the sha256 of its bytes as they lie on disk.

    ``path`` counts from the corpus's root. ``first_bytes`` are the places (in the uncompressed
    text) of the rows 0, K, 2K, … of a file of JSON lines, K being the rows of a shard.
    """

    path: str
    size: int
    num_rows: int
    text_bytes: int  # uncompressed, as far as the format tells
    sha256: str
    first_bytes: tuple[int, ...] = ()


def suffix_of(path: Path) -> str | None:
    """Return the known suffix of a corpus file, or None."""
    return next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), None)


def seekable(name: str) -> bool:
    """Return whether a file can be read from any place: it is not compressed as a whole."""
    return COMPRESSION.get(suffix_of(Path(name)) or "") is None


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Return the corpus files among ``paths``; a folder stands for all in it, sorted by name.

    What mads itself has made in such a folder, a store or a selection, is left out.

    Links keep their own names: a Hugging Face cache links to files without a suffix. Raises
    UsageError for a path that does not exist or has no known format.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if suffix_of(p) and not p.is_dir()]
            inside = [p for p in inside if not p.name.startswith(".")]
            inside = _foreign(path, inside)
            if not inside and (kind := kind_of(path)):
                raise UsageError(f"{path} is {kind} that mads made. Give a folder of a corpus.")
            if not inside:
                raise UsageError(f"{path} holds no corpus file ({', '.join(SUFFIXES)}).")
            found += inside
        elif not path.exists():
            raise UsageError(f"{path} does not exist.")
        elif suffix_of(path) is None:
            raise UsageError(
                f"{path} has no known format: found {path.suffix or 'no suffix'!r}, "
                f"expected one of {', '.join(SUFFIXES)}."
            )
        else:
            found.append(path)
    if not found:
        raise UsageError("no corpus: give at least one file or folder.")
    files: dict[Path, Path] = {}
    folders: dict[Path, Path] = {}
    for path in found:
        if path.parent not in folders:
            folders[path.parent] = _plain(path.parent)
        files.setdefault(_resolved(path), folders[path.parent] / path.name)
    for path in files.values():
        if os.fsencode(path).decode("utf-8", "replace") != str(path):
            raise UsageError(f"{str(path)!r}: a file's name must be UTF-8. Rename it.")
    return list(files.values())


def _foreign(root: Path, files: Sequence[Path]) -> list[Path]:
    """Return the files that mads has not made: a store or selection may lie below its corpus."""
    ours: dict[Path, bool] = {}

    def is_ours(folder: Path) -> bool:
        if folder not in ours:
            made = bool(kind_of(folder)) or folder.suffix == PARTIAL
            ours[folder] = made or (folder != root and is_ours(folder.parent))
        return ours[folder]

    return [path for path in files if not is_ours(path.parent)]


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise UsageError(f"{path} cannot be followed: {error}. Remove the link.") from error


def corpus_root(paths: Sequence[Path]) -> Path:
    """Return the folder below which a corpus lies: what was given, or what all of it lies in."""
    folders = [path if path.is_dir() else path.parent for path in paths]
    return Path(os.path.commonpath([_plain(folder) for folder in folders]))


def _plain(folder: Path) -> Path:
    """Return a folder's absolute path without `..`, which behind a link leads elsewhere."""
    plain = Path(os.path.normpath(folder.absolute()))
    there, meant = os.path.realpath(plain), os.path.realpath(folder)
    return plain if there == meant else Path(meant)


def scan(files: Sequence[Path], shard_docs: int, workers: int) -> Iterator[CorpusFile]:
    """Count and fingerprint every file, in order.

    Raises DataError that lists every damaged file, after all have been looked at.
    """
    problems: list[str] = []
    for found in _scanned(files, shard_docs, workers):
        if isinstance(found, CorpusFile):
            yield found
        else:
            problems.append(found)
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise DataError(f"{len(problems)} of {len(files)} corpus files cannot be read:\n{lines}")


def _scanned(files: Sequence[Path], shard_docs: int, workers: int) -> Iterator[CorpusFile | str]:
    """Yield each file, or what is wrong with it; little work is done in this process."""
    if sum(path.stat().st_size for path in files if path.is_file()) <= INLINE_BYTES:
        for path in files:
            yield from _scan_some([path], shard_docs)
        return
    size = min(max(len(files) // (8 * workers), 1), 64)
    groups = [files[i : i + size] for i in range(0, len(files), size)]
    with worker_pool(workers, end_with_parent) as pool:
        for future in [pool.submit(_scan_some, group, shard_docs) for group in groups]:
            yield from future.result()


def _scan_some(files: Sequence[Path], shard_docs: int) -> list[CorpusFile | str]:
    found: list[CorpusFile | str] = []
    for path in files:
        try:
            found.append(scan_file(path, shard_docs))
        except DataError as error:
            found.append(str(error))
    return found


def scan_file(path: Path, shard_docs: int) -> CorpusFile:
    """Count and fingerprint one file; raises DataError when it is damaged or foreign.

    ``shard_docs`` is the number of rows from one place of ``first_bytes`` to the next.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            raise DataError(f"{path} is empty (0 bytes). Copy it again, or leave it out.")
        _refuse_foreign(path)
    except OSError as error:  # a link to nothing (git-annex), no permission
        raise DataError(f"{path} cannot be opened: {error.strerror}.") from error
    if suffix_of(path) == ".parquet":
        num_rows, text_bytes = _scan_parquet(path)
        first_bytes: tuple[int, ...] = ()
    else:
        num_rows, text_bytes, first_bytes = _scan_lines(path, shard_docs)
    return CorpusFile(str(path), size, num_rows, text_bytes, file_sha256(path), first_bytes)


def _refuse_foreign(path: Path) -> None:
    with path.open("rb") as handle:
        head = handle.read(64)
    if head.startswith(b"version https://git-lfs"):
        raise DataError(f"{path} is a git-LFS pointer, not the data. Run `git lfs pull`.")
    if head.lstrip().startswith((b"<!", b"<html", b"<?xml", b"<HTML")):
        raise DataError(f"{path} is a web page, not a corpus file. Download it again.")


def open_lines(path: Path) -> pa.NativeFile:
    """Open a JSON-lines file, decompressed; reading raises OSError when it is damaged."""
    return pa.input_stream(str(path), compression=COMPRESSION[suffix_of(path) or ""])


def damaged(path: Path, error: Exception) -> DataError:
    """Return the error for a file that cannot be read to its end."""
    reason = str(error).splitlines()[0].rstrip(".")
    return DataError(f"{path} is damaged or truncated: {reason}. Copy it again, or leave it out.")


def _scan_lines(path: Path, shard_docs: int) -> tuple[int, int, tuple[int, ...]]:
    """Return the number of lines and bytes, and where every ``shard_docs``-th line begins."""
    _refuse_other_json(path)
    num_lines = num_bytes = 0
    firsts = [0]
    last = b"\n"
    try:
        with open_lines(path) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                found = chunk.count(b"\n")
                if num_lines + found >= len(firsts) * shard_docs:
                    ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n"))
                    while num_lines + found >= len(firsts) * shard_docs:
                        end = ends[len(firsts) * shard_docs - num_lines - 1]
                        firsts.append(num_bytes + int(end) + 1)
                num_lines += found
                num_bytes += len(chunk)
                last = chunk[-1:]
    except OSError as error:
        raise damaged(path, error) from error
    num_lines += last != b"\n"
    return num_lines, num_bytes, tuple(firsts[: -(-num_lines // shard_docs) or 1])


def _refuse_other_json(path: Path) -> None:
    """Raise DataError for JSON that is not one record per line."""
    try:
        with open_lines(path) as stream:
            head: bytes = stream.read(HEAD_BYTES)
    except OSError as error:
        raise damaged(path, error) from error
    first = head.removeprefix(BOM).lstrip().split(b"\n")[0].strip()
    if first.startswith(b"["):
        what = "one JSON array"
    elif first == b"{":
        what = "JSON over several lines"
    else:
        return
    raise DataError(
        f"{path} is {what}, expected one JSON object per line. Write it as JSON lines, "
        "such as with `jq -c '.[]?' old.jsonl > new.jsonl`."
    )


def _scan_parquet(path: Path) -> tuple[int, int]:
    try:
        with pq.ParquetFile(path) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            return file.metadata.num_rows, sum(group.total_byte_size for group in groups)
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, error) from error
