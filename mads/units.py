"""Sizes, counts and parts as people write them."""

from __future__ import annotations

import math

from mads.errors import UsageError


def parse_bytes(text: str) -> int:
    """Return a size such as ``4GB`` or ``500 MiB`` in bytes; raises UsageError.

    >>> parse_bytes("4GB"), parse_bytes("1KiB")
    (4000000000, 1024)
    """
    units = {"": 1, "B": 1}
    for power, letter in enumerate("KMGT", start=1):
        units |= {letter: 1000**power, f"{letter}B": 1000**power, f"{letter}IB": 1024**power}
    number = text.strip().rstrip("BKMGTIbkmgti ")
    unit = text.strip()[len(number) :].strip().upper()
    try:
        size = float(number) * units[unit]
    except (ValueError, KeyError):
        size = math.nan
    if not 1 <= size < 2**63:
        raise UsageError(f"{text!r} is not a size; write 4GB, say.")
    return int(size)


def parse_count(text: str, option: str = "--tokens") -> int:
    """Return a number such as ``5M`` or ``1.5B``; raises UsageError.

    >>> parse_count("5M"), parse_count("1_000")
    (5000000, 1000)
    """
    units = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
    unit = text[-1:].upper() if text[-1:].isalpha() else ""
    try:
        value = float(text[: len(text) - len(unit)]) * units[unit]
    except (ValueError, KeyError) as error:
        raise UsageError(f"{option} {text!r} is not a number; write 5M or 1.5B, say.") from error
    if not 1 <= value < 2**62:
        raise UsageError(f"{option} {text!r}: expected at least 1.")
    return round(value)


def parse_part(text: str) -> tuple[int, int]:
    """Return (i, n) of ``i/n``, i from 0; raises UsageError.

    >>> parse_part("2/8")
    (2, 8)
    """
    index, slash, count = text.partition("/")
    if not (slash and index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise UsageError(f"--shard {text!r}: expected i/n with i from 0 to n - 1, such as 0/8.")
    return int(index), int(count)
