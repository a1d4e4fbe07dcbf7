"""Every error a user can cause. Each message says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MadsError(Exception):
    """A problem in the data or on the machine. Exit code 1."""

    exit_code = 1


class UsageError(MadsError):
    """A problem in the command line or the recipe. Exit code 2."""

    exit_code = 2


class DataError(MadsError):
    """A corpus, store or run that cannot be read or does not fit. Exit code 1."""


class Interrupted(MadsError):
    """A signal asked the command to stop; its work is saved. Exit code 75 (EX_TEMPFAIL)."""

    exit_code = 75


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a message: the nearest known word, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(names)}" if names else "nothing is known here"
