"""Every file name in a store and in a run, and the one way in which files are written.

A file exists under its name only when it is whole: it is written beside its place, synced and
renamed. What a killed process leaves behind ends in ``.partial`` and is written anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mads.errors import DataError, UsageError

LOCK = ".lock"
PARTIAL = ".partial"
SEAL = "sha256"


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
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error


def write_sealed_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, with the sha256 of the rest of it as its last key."""
    write_json(path, {**value, SEAL: json_sha256(value)})


def read_sealed_json(
    path: Path,
    remedy: str,
    *,
    by_hand: bool = False,
    check: Callable[[Mapping[str, Any], Path], None] | None = None,
) -> dict[str, Any]:
    """Read what ``write_sealed_json`` wrote, without the sha256.

    Raises DataError when the file is missing, damaged or was changed. A file that people may also
    write themselves (``by_hand``) need not have the key. ``check`` sees the value first, such as
    for its format.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path} holds a {type(value).__name__}, expected an object. {remedy}")
    if check is not None:
        check(value, path)
    claimed = value.pop(SEAL, None)
    if claimed is None and by_hand:
        return value
    if claimed is None:
        raise DataError(f"{path} has no {SEAL!r}: it was changed, or is not mads's own. {remedy}")
    found = json_sha256(value)
    if claimed != found:
        edited = f" If you changed it on purpose, remove its {SEAL!r}." if by_hand else ""
        raise DataError(
            f"{path} was changed: its {SEAL} says {str(claimed)[:16]}, its content has "
            f"{found[:16]}. {remedy}{edited}"
        )
    return value


def json_sha256(value: Any) -> str:
    """Return the sha256 of a JSON value, whatever its white space and the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


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
