"""Every error a user can cause. Each message says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable


class MadsError(Exception):
    """A problem in the data or on the machine. Exit code 1."""

    exit_code = 1


class UsageError(MadsError):
    """A problem in the command line or the recipe. Exit code 2."""

    exit_code = 2


class DataError(MadsError):
    """A corpus, store or run that cannot be read or does not fit. Exit code 1."""


class InUse(DataError):
    """A folder that another process writes."""


class Interrupted(MadsError):
    """A signal asked the command to stop; its work is saved. Exit code 75 (EX_TEMPFAIL)."""

    exit_code = 75


class Unsaid(MadsError):
    """An error that the main process of several tells; this one ends without a word."""

    def __init__(self, exit_code: int) -> None:
        """Take the exit code of the error that is told elsewhere."""
        super().__init__("")
        self.exit_code = exit_code


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a message: the nearest known word, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(names)}" if names else "nothing is known here"


_MACHINE = {
    errno.EMFILE: "The limit of open files is reached; raise it (ulimit -n 4096).",
    errno.ENFILE: "The machine has too many open files; close some programs.",
    errno.EACCES: "There is no permission for it; ask its owner, or run as its owner.",
    errno.EPERM: "There is no permission; ask for it, or run as its owner.",
    errno.EIO: "The disk does not answer; the file may be whole. Try again, and look at the disk.",
    errno.ENOMEM: "There is not enough RAM; close other programs, or take fewer workers.",
    errno.ENOSPC: "The disk is full; make room and run the same command again.",
    errno.EDQUOT: "The disk quota is used up; make room and run the same command again.",
    **dict.fromkeys(
        (
            *(errno.EROFS, errno.EFBIG, errno.ESTALE, errno.ETIMEDOUT, errno.EBUSY),
            *(errno.ELOOP, errno.ENAMETOOLONG, errno.ENOLCK),
        ),
        "The machine is at fault, not the file.",
    ),
}


def machine_problem(error: BaseException) -> str:
    """Return what to do where not the file but the machine is at fault; "" for all else.

    A remedy that says "delete it" is for damage only. pyarrow hides the number in its text, DuckDB
    has the system's words alone.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := re.search(r"\[errno (\d+)\]", str(error))):
        number = int(found[1])
    if isinstance(error, MemoryError):
        number = errno.ENOMEM
    if number is None:
        number = next((n for n in _MACHINE if os.strerror(n) in str(error)), None)
    return _MACHINE.get(number or 0, "")


NO_MEMORY = (
    "the machine's RAM is full. Lower corpus.workers, index_ram or selection.ram, or run where "
    "there is more."
)


def lacks_memory(error: BaseException) -> bool:
    """Tell whether there was too little RAM, also for a library that was to be loaded."""
    words = ("failed to map", "cannot allocate")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)
