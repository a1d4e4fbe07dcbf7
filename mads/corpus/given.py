"""What a user gives as a corpus: paths, patterns, @lists of either, a list on stdin, addresses."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mads.corpus.places import Place, Remote, place_of
from mads.corpus.readers import suffix_of
from mads.errors import UsageError
from mads.units import shorten

_PATTERN = set("*?[")
STDIN = "-"


def expand(given: Sequence[Path | str]) -> list[Place]:
    """Return paths and addresses; lists are read, and patterns stand for the files that fit.

    A line of a list counts from the list's folder, one of stdin from the current folder. Raises
    UsageError for a list that cannot be read, and for a pattern that nothing fits.
    """
    return [place for item in given for place in _expanded(str(item))]


def _expanded(text: str) -> Iterator[Place]:
    if text == STDIN:
        for line in _lines(sys.stdin.buffer.read(), "stdin"):
            yield from _matching(place_of(line))
    elif text.startswith("@") and not Path(text).exists():
        path = Path(text[1:])
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UsageError(f"the list {path} cannot be read: {error.strerror}.") from error
        for line in _lines(content, str(path)):
            place = place_of(line)
            yield from _matching(place if isinstance(place, Remote) else path.parent / place)
    else:
        yield from _matching(place_of(text))


def _lines(content: bytes, what: str) -> list[str]:
    """Return the paths of a list: one on each line; blank lines and those with # are left out."""
    try:
        lines = [line.strip() for line in content.decode("utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise UsageError(f"{what} is no list of paths: it is not UTF-8.") from error
    found = [line for line in lines if line and not line.startswith("#")]
    if found and found[0].startswith(("{", "[")):
        raise UsageError(
            f"{what} holds JSON ({shorten(found[0])}), expected a path on each line. Documents "
            "must lie in files, since a store that grows, and a call that goes on where one was "
            "killed, read them again: write them into corpus.jsonl first, and give that."
        )
    if not found:
        raise UsageError(f"{what} names no path. Give one on each line.")
    return found


def _matching(place: Place) -> Iterator[Place]:
    """Yield what a pattern stands for; anything else stands for itself."""
    if isinstance(place, Remote) or not _PATTERN & set(str(place)) or place.exists():
        yield place
        return
    names = sorted(glob.glob(str(place), recursive=True))  # noqa: PTH207, a pattern may be absolute
    found = [Path(name) for name in names]
    fitting = [path for path in found if path.is_dir() or suffix_of(path)]
    if "**" in str(place):  # which fits the folders of its files too
        fitting = [path for path in fitting if not path.is_dir()]
    if not fitting:
        more = f", only {names[0]}, which has no known format" if names else ""
        raise UsageError(f"{place} fits no corpus file{more}.")
    yield from fitting


def common_root(places: Sequence[Place]) -> Place:
    """Return the address that all remote files lie below; raises UsageError for a mixture."""
    local = [place for place in places if isinstance(place, Path)]
    remote = [place.url.split("/") for place in places if isinstance(place, Remote)]
    if local and remote:
        raise UsageError(
            f"{local[0]} is a path and {'/'.join(remote[0])} an address: one store is made of "
            "either. Copy the fewer ones to the others' place, or make two stores."
        )
    first, last = min(remote), max(remote)
    same = [a for i, a in enumerate(first) if first[: i + 1] == last[: i + 1]]
    return Remote("/".join(same))
