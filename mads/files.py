"""Every file name in a store and in a run, and the one way in which files are written.

A file exists under its name only when it is whole: it is written beside its place, synced and
renamed. What a killed process leaves behind ends in ``.partial`` and is written anew.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mads.errors import DataError, UsageError

LOCK = ".lock"
PARTIAL = ".partial"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path; when the block ends without an error it becomes ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    try:
        yield partial
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    publish(partial, path)


def publish(partial: Path, path: Path) -> None:
    """Sync a finished file (or folder of files) and rename it into its place."""
    inside = sorted(partial.rglob("*")) if partial.is_dir() else []
    for entry in (*inside, partial):
        sync(entry)
    if path.is_dir():
        shutil.rmtree(path)
    partial.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Sync a file, or a folder, so that a rename in it survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN and infinity are refused (ValueError)."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; raises DataError when the file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Hold a folder for one writer.

    Raises UsageError when it is a file, DataError when another process holds it.
    """
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file, not a folder. Give another --out.")
    root.mkdir(parents=True, exist_ok=True)
    with (root / LOCK).open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(
                f"{root} is being written by another mads process. Wait for it, or stop it."
            ) from error
        yield
