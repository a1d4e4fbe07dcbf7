"""The one way in which files and folders are written.

A file exists under its name only when it is whole: it is written beside its place, synced and
renamed. What a killed process leaves behind ends in ``.partial`` and is written anew.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mads.errors import DataError, InUse, UsageError, machine_problem

LOCK = ".lock"
PARTIAL = ".partial"
SEAL = "sha256"


def reason_of(error: BaseException) -> str:
    """Return why a file could not be read or written, in the system's words where there are any."""
    strerror = None
    if isinstance(error, OSError):
        if error.errno and machine_problem(error):
            return os.strerror(error.errno)
        strerror = error.strerror
    elif not str(error):
        return type(error).__name__
    return (strerror or str(error) or "no reason is known").splitlines()[0].rstrip(".")


def unreadable(path: Path | str, error: BaseException, remedy: str, at: str = "") -> DataError:
    """Return the error for a file that cannot be read; ``remedy`` is for damage alone."""
    advice = machine_problem(error) or remedy
    return DataError(f"{path} cannot be read{at}: {reason_of(error)}. {advice}")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path; when the block ends without an error it becomes ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    try:
        with naming(path):
            yield partial
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    publish(partial, path)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make an error of the machine name the file: a failed write alone does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None and machine_problem(error):
            raise OSError(error.errno, reason_of(error), str(path)) from error
        raise


def publish(partial: Path, path: Path) -> None:
    """Sync a finished file (or folder of files) and rename it into its place."""
    sync_all(partial)
    if path.is_dir():
        shutil.rmtree(path)
    partial.replace(path)
    sync(path.parent)


def sync_all(path: Path) -> None:
    """Sync a file, or a folder with all that is in it."""
    inside = sorted(path.rglob("*")) if path.is_dir() else []
    for entry in (*inside, path):
        sync(entry)


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


def read_json(path: Path, remedy: str = "") -> Any:
    """Read JSON; raises DataError when the file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist. {remedy}".rstrip()) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason_of(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}. {remedy}".rstrip()) from error


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
    value = read_json(path, remedy)
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


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def json_sha256(value: Any) -> str:
    """Return the sha256 of a JSON value, whatever its white space and the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Hold a folder for one writer.

    Raises UsageError when it is a file, InUse when another process holds it.
    """
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file, not a folder. Give another --out.")
    root.mkdir(parents=True, exist_ok=True)
    with (root / LOCK).open("a") as handle:
        _lock(handle.fileno(), root)
        yield


@contextmanager
def shared(root: Path) -> Iterator[None]:
    """Hold a folder together with others of this kind, so that nobody holds it ``exclusive``.

    Waits while somebody does. Where locks do not reach other machines it says nothing of what
    these do.
    """
    with (root / LOCK).open("a+") as handle:  # NFS shares a lock only of what may be read
        fcntl.flock(handle.fileno(), fcntl.LOCK_SH)
        yield


def is_held(root: Path) -> bool:
    """Return whether a process, here or wherever locks reach, writes into a folder."""
    try:
        with (root / LOCK).open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no lock, so nobody holds it
        return False
    return False


def _lock(handle: int, root: Path) -> None:
    """Lock an open file for this process; raises InUse when another one has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InUse(
            f"{root} is being written by another mads process. Wait for it, or stop it."
        ) from error


@contextmanager
def fresh_folder(out: Path) -> Iterator[Path | None]:
    """Yield a folder that becomes ``out`` as a whole when the block ends without an error.

    Yields None, for the caller to look, when ``out`` is there already and not empty. The work is
    done in ``OUT.partial`` beside it, under a lock; what a killed attempt left there is deleted.
    Raises UsageError when one of the two is no folder of mads, DataError when another process
    writes it.
    """
    if out.name in ("", ".."):
        out = out.resolve()
    if not out.name:
        raise UsageError(f"{out} is no folder that can be made. Give another --out.")
    if _is_full(out):
        yield None
        return
    out = out.resolve() if out.is_symlink() else out
    partial = out.with_name(out.name + PARTIAL)
    out.parent.mkdir(parents=True, exist_ok=True)
    with naming(out), _held(partial, out):
        if _is_full(out):  # another process was faster
            _clear(partial)
            yield None
            return
        try:
            yield partial
            sync_all(partial)
            _rename(partial, out)
        except BaseException:
            _clear(partial)
            raise
        # Last: as long as the lock's file is in its place, nobody else can have begun.
        (out / LOCK).unlink()
        sync(out.parent)


def _rename(partial: Path, out: Path) -> None:
    """Give a folder its name; raises UsageError when another folder has come to be there."""
    try:  # not through `publish`, which replaces what is there
        partial.rename(out)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise UsageError(f"{out} is not empty. Give another --out.") from error
        raise


def _is_full(out: Path) -> bool:
    """Tell whether a folder has anything in it; raises UsageError for a file."""
    if out.is_dir():
        return any(entry.name != LOCK for entry in out.iterdir())
    if os.path.lexists(out):
        raise UsageError(f"{out} is a file, not a folder. Give another --out.")
    return False


@contextmanager
def _held(partial: Path, out: Path) -> Iterator[None]:
    """Make and lock a folder to work in, empty but for its lock."""
    while True:
        if partial.is_symlink() or (partial.exists() and not partial.is_dir()):
            raise UsageError(f"{partial} is in the way: it is not mads's own. Move it.")
        try:
            partial.mkdir(exist_ok=True)
            names = {entry.name for entry in partial.iterdir()}
            if names and LOCK not in names:
                raise UsageError(f"{partial} is in the way: it is not mads's own. Move it.")
            handle = os.open(partial / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:  # the folder got its final name just now
            continue
        try:
            _lock(handle, out)
            if not _is_same(handle, partial / LOCK):
                continue  # it was renamed or deleted between opening and locking
            _clear(partial, keep_lock=True)
            yield
            return
        finally:
            os.close(handle)


def _is_same(handle: int, path: Path) -> bool:
    """Tell whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except OSError:
        return False


def _clear(folder: Path, *, keep_lock: bool = False) -> None:
    """Delete what is in a folder that this process holds, its lock last, and then the folder."""
    for entry in list(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()
    if keep_lock:
        return
    (folder / LOCK).unlink(missing_ok=True)
    with suppress(OSError):  # another process may be at its beginning
        folder.rmdir()
