"""Which files make up a corpus, and what is in them: one pass that counts and fingerprints.

The pass reads every byte once, so a truncated or foreign file is found before any work is done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeVar

import pyarrow as pa

from mads.corpus.given import common_root, expand
from mads.corpus.look import Head, look
from mads.corpus.places import Place, Remote, list_remote, open_raw, place_of, size_of
from mads.corpus.readers import KNOWN, is_text, reader_of, suffix_of
from mads.corpus.readers.reader import RowFormat
from mads.corpus.streams import damaged
from mads.errors import DataError, UsageError
from mads.files import PARTIAL
from mads.layout import kind_of
from mads.processes import end_with_parent, worker_pool

F = TypeVar("F", bound="Place | CorpusFile")
T = TypeVar("T")
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
    """The files of a corpus, those of its folders that are taken for notes beside them, its root.

    The root is the folder below which all files lie.
    """

    files: list[Place]
    left_out: list[Place]
    root: Place


def find_files(given: Sequence[Path | str]) -> Found:
    """Return the corpus files that are ``given``; a folder stands for all in it, sorted by name.

    What mads itself has made in such a folder, a store or a selection, is left out. So are plain
    ``.json`` files beside other ones (as ``dataset_info.json`` is), and texts beside either
    (``README.md``), unless they are named themselves.

    Links keep their own names: a Hugging Face cache links to files without a suffix. Raises
    UsageError for a path that does not exist or has no known format.
    """
    places = expand(given)
    if not places:
        raise UsageError("no corpus: give at least one file or folder.")
    found: list[Place] = []
    notes: list[Place] = []
    for place in places:
        inside = _inside(place)
        if inside is None:
            found.append(place)
            continue
        main, beside = _main_kind([file for file in inside if suffix_of(file)])
        if not main:
            kind = kind_of(place) if isinstance(place, Path) else ""
            if kind:
                raise UsageError(f"{place} is {kind} that mads made. Give a folder of a corpus.")
            raise UsageError(f"{place} holds no corpus file ({KNOWN}).")
        found += main
        notes += beside
    remote = [place for place in found if isinstance(place, Remote)]
    if remote:
        files = list(dict.fromkeys(found))
        root = common_root([place.parent for place in found])
    else:
        files = _distinct([path for path in found if isinstance(path, Path)])
        root = corpus_root([path for path in places if isinstance(path, Path)])
    named = set(files)
    return Found(files, [place for place in notes if _plain_file(place) not in named], root)


def _inside(place: Place) -> list[Place] | None:
    """Return the files of a folder or a remote pattern; None for what is a file itself."""
    if isinstance(place, Remote):
        listed = list_remote(place)
        if listed is not None:
            return [file for file in listed if not file.name.startswith(".")]
    elif place.is_dir():
        files = [p for p in sorted(place.rglob("*")) if suffix_of(p) and not p.is_dir()]
        return [*_foreign(place, [p for p in files if not p.name.startswith(".")])]
    elif not place.exists():
        raise UsageError(f"{place} does not exist.")
    if suffix_of(place) is None:
        raise UsageError(
            f"{place} has no known format: found {PurePath(place.name).suffix or 'no suffix'!r}, "
            f"expected one of {KNOWN}."
        )
    return None


def _distinct(paths: Sequence[Path]) -> list[Place]:
    """Return each file once, under the first name that it has; raises UsageError for bad names."""
    files: dict[Path, Path] = {}
    folders: dict[Path, Path] = {}
    for path in paths:
        if path.parent not in folders:
            folders[path.parent] = _plain(path.parent)
        files.setdefault(_resolved(path), folders[path.parent] / path.name)
    for path in files.values():
        if os.fsencode(path).decode("utf-8", "replace") != str(path):
            raise UsageError(f"{str(path)!r}: a file's name must be UTF-8. Rename it.")
    return [*files.values()]


def _main_kind(files: Sequence[Place]) -> tuple[list[Place], list[Place]]:
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


def _plain_file(place: Place) -> Place:
    return _plain(place.parent) / place.name if isinstance(place, Path) else place


def _plain(folder: Path) -> Path:
    """Return a folder's absolute path without `..`, which behind a link leads elsewhere."""
    plain = Path(os.path.normpath(folder.absolute()))
    there, meant = os.path.realpath(plain), os.path.realpath(folder)
    return plain if there == meant else Path(meant)


def scan(files: Sequence[Place], shard_docs: int, workers: int) -> Iterator[CorpusFile]:
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


def look_at(
    files: Sequence[CorpusFile], row_format: RowFormat, workers: int
) -> Iterator[tuple[CorpusFile, Head]]:
    """Look at the beginning of scanned files, whose paths are whole."""
    yield from zip(files, _in_groups(files, _Look(row_format), workers), strict=True)


@dataclass(frozen=True, slots=True)
class _Look:
    row_format: RowFormat

    def __call__(self, files: Sequence[CorpusFile]) -> list[Head]:
        return [look(place_of(f.path), f.num_rows, self.row_format) for f in files]


def _scanned(files: Sequence[Place], shard_docs: int, workers: int) -> Iterator[CorpusFile | str]:
    """Yield each file, or what is wrong with it."""
    yield from _in_groups(files, _Scan(shard_docs), workers)


def _in_groups(
    files: Sequence[F], work: Callable[[Sequence[F]], list[T]], workers: int
) -> Iterator[T]:
    """Yield what is found of each file; of large corpora little work is done in this process."""
    if sum(_size(file) for file in files) <= INLINE_BYTES:
        for file in files:
            yield from work([file])
        return
    size = min(max(len(files) // (8 * workers), 1), 64)
    groups = [files[i : i + size] for i in range(0, len(files), size)]
    with worker_pool(workers, end_with_parent) as pool:
        for future in [pool.submit(work, group) for group in groups]:
            yield from future.result()


def _size(file: Place | CorpusFile) -> int:
    """Return a file's size, as far as it is known before it is looked at."""
    if isinstance(file, CorpusFile):
        return file.size
    try:
        return size_of(file)
    except (OSError, DataError):
        return 0


@dataclass(frozen=True, slots=True)
class _Scan:
    shard_docs: int

    def __call__(self, files: Sequence[Place]) -> list[CorpusFile | str]:
        found: list[CorpusFile | str] = []
        for path in files:
            try:
                found.append(scan_file(path, self.shard_docs))
            except DataError as error:
                found.append(str(error))
        return found


def scan_file(path: Place, shard_docs: int) -> CorpusFile:
    """Count and fingerprint one file; raises DataError when it is damaged or foreign.

    ``shard_docs`` is the number of rows from one place of ``first_bytes`` to the next.
    """
    try:
        size = size_of(path)
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


def _refuse_foreign(path: Place) -> None:
    with open_raw(path) as handle:
        head = handle.read(64)
    if head.startswith(b"version https://git-lfs"):
        raise DataError(f"{path} is a git-LFS pointer, not the data. Run `git lfs pull`.")
    if not is_text(path) and head.lstrip().startswith((b"<!", b"<html", b"<?xml", b"<HTML")):
        raise DataError(f"{path} is a web page, not a corpus file. Download it again.")
