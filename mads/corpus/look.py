"""A look at the beginning of each file, before long work: is there text, are the fields there?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from mads.corpus.layouts import Layout, recognise
from mads.corpus.places import Place
from mads.corpus.readers import is_text, reader_of
from mads.corpus.readers.reader import RowFormat
from mads.corpus.rows import RowReader
from mads.corpus.streams import damaged
from mads.errors import DataError, UsageError, did_you_mean
from mads.types import Status

HEAD_ROWS = 1000  # of a file that are looked at
SHOWN = 12  # fields that a message lists


@dataclass(frozen=True, slots=True)
class Head:
    """The first rows of a file: how many, how many of them are not ok, and whether one has text.

    ``names`` are the fields of a file without text.
    """

    num_rows: int
    num_bad: int
    has_text: bool
    names: tuple[str, ...] = ()


def look(path: Place, num_rows: int, row_format: RowFormat) -> Head:
    """Read the first rows of a file; raises DataError when it is damaged.

    A file whose rows are all blank or empty has text, none of which is left; a file that is one
    document is never told from its neighbours.
    """
    counts = dict.fromkeys(Status, 0)
    rows = min(num_rows, HEAD_ROWS)
    for batch in RowReader(path, row_format).batches(0, rows):
        for status in batch.statuses:
            counts[status] += 1
    nothing = counts[Status.NO_TEXT] + counts[Status.UNDECODABLE]
    some = counts[Status.OK] + counts[Status.TOO_LONG]
    has_text = bool(some) or not nothing or is_text(path)
    names = () if has_text else tuple(names_of(path, HEAD_ROWS))
    return Head(rows, rows - counts[Status.OK], has_text, names)


def names_of(path: Place, num_rows: int) -> list[str]:
    """Return the fields of a file's first rows; raises DataError when it is damaged."""
    try:
        return reader_of(path).names(path, num_rows)
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, error) from error


def without_text(path: Place, head: Head, text_field: str) -> str:
    """Return what is wrong with a file that holds no text."""
    if head.names:
        found = f"none of its first {head.num_rows:,} rows has a text in {text_field!r}; "
        return f"{path} holds no documents: {found}its fields are {_listed(head.names)}"
    return f"{path} holds no documents: none of its first {head.num_rows:,} rows can be read"


def check_fields(paths: Sequence[Place], wanted: Mapping[str, str]) -> None:
    """Raise UsageError for a field that is in no record, with the fields that there are.

    ``wanted`` says who reads each field. The first record of each file is looked at, and the first
    HEAD_ROWS of each only where that does not do. Where no record can be read at all there is
    nothing to say of fields.
    """
    missing, known = dict(wanted), dict[str, None]()
    for num_rows in (1, HEAD_ROWS):
        for path in paths:
            if not missing:
                return
            names = names_of(path, num_rows)
            known |= dict.fromkeys(names)
            missing = {field: who for field, who in missing.items() if not _has(names, field)}
    if missing and known:
        lines = "\n".join(
            f"  - {who}: no record has {field!r}{_near(field, known)}"
            for field, who in missing.items()
        )
        raise UsageError(
            f"the corpus lacks fields (the first {HEAD_ROWS:,} rows of each file were looked "
            f"at):\n{lines}\nThe fields are {_listed(known)}."
        )


def _near(field: str, known: Iterable[str]) -> str:
    hint = did_you_mean(field, known)
    return f"; {hint}" if hint.startswith("did you mean") else ""


def layout_of(paths: Iterable[Place]) -> Layout | None:
    """Return the layout that the first record is in, as far as it is a known one."""
    for path in paths:
        try:
            names = names_of(path, 1)
        except DataError:  # which the scan tells, with all others
            continue
        return recognise(names)
    return None


def _has(names: Collection[str], field: str) -> bool:
    return any(name == field or name.startswith(f"{field}.") for name in names)


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
