"""Which files make up a corpus, and what is in them: one pass that counts and fingerprints.

The pass reads every byte once, so a truncated or foreign file is found before any work is done.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from mads.corpus.readers import KNOWN, is_text, reader_of, suffix_of
from mads.corpus.streams import damaged
from mads.errors import DataError, UsageError
from mads.files import PARTIAL
from mads.layout import kind_of
from mads.processes import end_with_parent, worker_pool

INLINE_BYTES = 32 * 1024 * 1024  # of all files; starting processes takes longer than to read these


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """One corpus file: its size and rows, and the sha256 of its bytes as they lie on disk.

    ``path`` counts from the corpus's root. ``first_bytes`` are the places (in the uncompressed
    text) of the rows 0, K, 2K, … of a file that is a stream of records (JSON, CSV), K being the
    rows of a shard.
    """

    path: str
    size: int
    num_rows: int
    text_bytes: int  # uncompressed, as far as the format tells
    sha256: str
    first_bytes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """The files of a corpus, and those of its folders that are taken for notes beside them."""

    files: list[Path]
    left_out: list[Path]


def find_files(paths: Sequence[Path]) -> Found:
    """Return the corpus files among ``paths``; a folder stands for all in it, sorted by name.

    What mads itself has made in such a folder, a store or a selection, is left out. So are plain
    ``.json`` files beside other ones (as ``dataset_info.json`` is), and texts beside either
    (``README.md``), unless they are named themselves.

    Links keep their own names: a Hugging Face cache links to files without a suffix. Raises
    UsageError for a path that does not exist or has no known format.
    """
    found: list[Path] = []
    notes: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if suffix_of(p) and not p.is_dir()]
            inside = [p for p in inside if not p.name.startswith(".")]
            inside, beside = _main_kind(_foreign(path, inside))
            notes += beside
            if not inside and (kind := kind_of(path)):
                raise UsageError(f"{path} is {kind} that mads made. Give a folder of a corpus.")
            if not inside:
                raise UsageError(f"{path} holds no corpus file ({KNOWN}).")
            found += inside
        elif not path.exists():
            raise UsageError(f"{path} does not exist.")
        elif suffix_of(path) is None:
            raise UsageError(
                f"{path} has no known format: found {path.suffix or 'no suffix'!r}, "
                f"expected one of {KNOWN}."
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
    named = set(files.values())
    return Found(list(files.values()), [path for path in notes if _plain_file(path) not in named])


def _main_kind(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the files that are a folder's documents, and those that are notes beside them."""
    data = [path for path in files if not is_text(path)]
    main = [path for path in data if suffix_of(path) != ".json"] or data or list(files)
    kept = set(main)
    return main, [path for path in files if path not in kept]


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


def _plain_file(path: Path) -> Path:
    return _plain(path.parent) / path.name


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
        if size == 0 and not is_text(path):
            raise DataError(f"{path} is empty (0 bytes). Copy it again, or leave it out.")
        _refuse_foreign(path)
    except OSError as error:  # a link to nothing (git-annex), no permission
        raise DataError(f"{path} cannot be opened: {error.strerror}.") from error
    try:
        found = reader_of(path).scan(path, shard_docs)
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, error) from error
    return CorpusFile(
        str(path), size, found.num_rows, found.text_bytes, found.sha256, found.first_bytes
    )


def _refuse_foreign(path: Path) -> None:
    with path.open("rb") as handle:
        head = handle.read(64)
    if head.startswith(b"version https://git-lfs"):
        raise DataError(f"{path} is a git-LFS pointer, not the data. Run `git lfs pull`.")
    if not is_text(path) and head.lstrip().startswith((b"<!", b"<html", b"<?xml", b"<HTML")):
        raise DataError(f"{path} is a web page, not a corpus file. Download it again.")
