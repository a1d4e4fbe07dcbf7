"""Where a corpus file lies: on this machine, or at an address that fsspec reads (``mads[remote]``).

A remote file is read where it is, in parts; nothing is copied to this machine.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import Any, BinaryIO, cast

from mads.errors import DataError, UsageError

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")
_LOCAL = "file://"
BLOCK_BYTES = 8 * 1024 * 1024  # of a remote file, fetched at a time
HASHED_BYTES = 1024 * 1024  # at a time
_CHANGES = (
    "ETag",
    "etag",
    "checksum",
    "md5Hash",
    "LastModified",
    "last_modified",
    "mtime",
    "created",
)
"""What filesystems call that which changes with a file."""


@dataclass(frozen=True, slots=True, order=True)
class Remote:
    """A file or folder at an address such as s3://bucket/folder/x.jsonl.zst."""

    url: str

    @property
    def name(self) -> str:
        """The last part."""
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> Remote:
        """What it lies in."""
        return Remote(self.url.rstrip("/").rpartition("/")[0])

    def __str__(self) -> str:
        return self.url


Place = Path | Remote


def place_of(text: str | Path) -> Place:
    """Return a path or an address; ``file://`` is a path."""
    text = str(text)
    if text.startswith(_LOCAL):
        return Path(text.removeprefix(_LOCAL))
    return Remote(text) if _ADDRESS.match(text) else Path(text)


def inside(root: str | Place, name: str) -> Place:
    """Return a file by its path below a folder."""
    found = place_of(root) if isinstance(root, str) else root
    return Remote(f"{found.url.rstrip('/')}/{name}") if isinstance(found, Remote) else found / name


def path_below(root: str, place: str) -> str:
    """Return a file's path as it counts from a folder that all of a corpus lies in."""
    if isinstance(place_of(place), Remote):
        return place.removeprefix(f"{root.rstrip('/')}/")
    return os.path.relpath(place, root)


def as_pure(place: Place) -> PurePosixPath:
    """Return what a name is read off: a suffix, say."""
    return PurePosixPath(place.name)


def facts_of(place: Place) -> list[int] | None:
    """Return a file's size and time of change, or what stands for it; None where none is known."""
    if isinstance(place, Remote):
        info = _info(place)
        marks = [str(info[key]) for key in _CHANGES if info.get(key)]
        if info.get("type") != "file" or not marks or info.get("size") is None:
            return None
        return [
            int(info["size"]),
            int(hashlib.sha256("\0".join(marks).encode()).hexdigest()[:15], 16),
        ]
    try:
        stat = place.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns] if S_ISREG(stat.st_mode) else None


def size_of(place: Place) -> int:
    """Return a file's size; raises OSError or DataError where there is none."""
    if isinstance(place, Path):
        return place.stat().st_size
    size = _info(place).get("size")
    if size is None:
        raise DataError(f"{place} does not tell its size, so it cannot be read in parts. Copy it.")
    return int(size)


def open_raw(place: Place) -> BinaryIO:
    """Open the bytes of a file as they lie."""
    if isinstance(place, Path):
        return place.open("rb")
    filesystem, path = connect(place)
    with _naming(place):
        return cast("BinaryIO", io.BufferedReader(_RemoteFile(place, filesystem, path)))


def sha256_of(place: Place) -> str:
    """Return the sha256 of a file's bytes."""
    with open_raw(place) as raw:
        found = hashlib.sha256()
        while part := raw.read(HASHED_BYTES):
            found.update(part)
        return found.hexdigest()


class _RemoteFile(io.RawIOBase):
    """A remote file; whatever a library raises names the file."""

    def __init__(self, place: Remote, filesystem: Any, path: str) -> None:
        super().__init__()
        self._place, self._at = place, 0
        self._file = filesystem.open(path, "rb", block_size=BLOCK_BYTES)

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that it can be read from any place."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read up to as many bytes as there is room for."""
        with _naming(self._place):
            if self._file.tell() != self._at:  # memory:// opens a file once for all
                self._file.seek(self._at)
            part = self._file.read(len(buffer))
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)

    def seek(self, place: int, whence: int = 0) -> int:
        """Go to a place."""
        with _naming(self._place):
            if whence == io.SEEK_CUR:
                place, whence = self._at + place, io.SEEK_SET
            self._at = int(self._file.seek(place, whence))
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()


def list_remote(place: Remote) -> list[Remote] | None:
    """Return the files that a pattern or a folder stands for, sorted; None for a file."""
    filesystem, path = connect(place)
    with _naming(place):
        if set("*?[") & set(path) and not place.url.startswith("http"):
            found = [name for name in filesystem.glob(path) if not filesystem.isdir(name)]
        elif place.url.startswith("http"):
            return None  # which has no folders
        elif filesystem.isdir(path):
            found = filesystem.find(path)
        elif filesystem.exists(path):
            return None
        else:
            raise UsageError(f"{place} does not exist.")
    scheme = place.url.partition("://")[0]
    return sorted(
        Remote(name if "://" in name else f"{scheme}://{name.lstrip('/')}") for name in found
    )


def connect(place: Remote) -> tuple[Any, str]:
    """Return the filesystem of an address and the path there; raises UsageError without one."""
    try:
        import fsspec  # an extra

        filesystem, path = fsspec.core.url_to_fs(place.url)
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"{place} cannot be read: {error}. `pip install 'mads[remote]'` brings what s3://, "
            "gs:// and https:// need; other addresses need the package that fsspec names."
        ) from error
    return filesystem, str(path)


def _info(place: Remote) -> dict[str, Any]:
    filesystem, path = connect(place)
    with _naming(place):
        found: dict[str, Any] = filesystem.info(path)
        return found


@contextmanager
def _naming(place: Remote) -> Iterator[None]:
    """Make an error name the file: the libraries' own have no class in common."""
    try:
        yield
    except (DataError, UsageError):
        raise
    except FileNotFoundError as error:
        raise DataError(f"{place} does not exist.") from error
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(
            f"{place} cannot be read: {type(error).__name__}: {reason}. Look at the address, the "
            "network and the access that this machine has, and run the same command again."
        ) from error
