"""What was verified before: files whose size and time of change are as they were then.

A note of this machine only; without it everything is read and compared once more.
"""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_ISREG

from mads.errors import DataError
from mads.files import read_sealed_json, write_sealed_json

_FACTS = 2  # size and time


class Seen:
    """The sizes and times of verified files, by their names.

    Without ``trust`` nothing counts but what this call has noted itself.
    """

    def __init__(self, path: Path, *, trust: bool = True) -> None:
        self._path = path
        try:
            value = read_sealed_json(path, "") if trust else {}
        except DataError:  # not there, or damaged: nothing is known
            value = {}
        self._known: dict[str, list[int]] = {
            name: facts
            for name, facts in value.items()
            if isinstance(facts, list) and len(facts) == _FACTS
        }

    def holds(self, path: Path) -> bool:
        """Return whether a file is as it was when it was noted."""
        known = self._known.get(_name(path))
        return known is not None and known == facts_of(path)

    def note(self, path: Path, facts: list[int] | None = None) -> None:
        """Note that a file is verified, as it lies there now or as it was before it was read."""
        found = facts or facts_of(path)
        if found is not None:
            self._known[_name(path)] = found

    def write(self) -> None:
        """Write the notes; files that are gone are forgotten."""
        kept = {name: facts for name, facts in self._known.items() if os.path.exists(name)}  # noqa: PTH110
        write_sealed_json(self._path, kept)


def facts_of(path: Path) -> list[int] | None:
    """Return a file's size and time of change; None when there is no such file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns] if S_ISREG(stat.st_mode) else None


def _name(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100, links keep their names
