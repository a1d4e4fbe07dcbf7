"""What was verified before: files whose size and time of change are as they were then.

A note of this machine only; without it everything is read and compared once more.
"""

from __future__ import annotations

import os
from pathlib import Path

from mads.corpus.places import Place, Remote, facts_of, place_of
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

    def holds(self, path: Place) -> bool:
        """Return whether a file is as it was when it was noted."""
        known = self._known.get(_name(path))
        return known is not None and known == facts_of(path)

    def note(self, path: Place, facts: list[int] | None = None) -> None:
        """Note that a file is verified, as it lies there now or as it was before it was read."""
        found = facts or facts_of(path)
        if found is not None:
            self._known[_name(path)] = found

    def write(self) -> None:
        """Write the notes; files that are gone are forgotten."""
        kept = {name: facts for name, facts in self._known.items() if _may_be_there(name)}
        write_sealed_json(self._path, kept)


def _may_be_there(name: str) -> bool:
    return isinstance(place_of(name), Remote) or os.path.exists(name)  # noqa: PTH110


def _name(path: Place) -> str:
    if isinstance(path, Remote):
        return path.url
    return os.path.abspath(path)  # noqa: PTH100, links keep their names
