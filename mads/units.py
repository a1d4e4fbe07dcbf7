"""Sizes, counts and parts as people write them; texts as people may see them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

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
        raise UsageError(f"{shorten(text)} is not a size; write 4GB, say.")
    return int(size)


Unit = Literal["tokens", "docs"]
LARGEST_COUNT = 10**18
_SHOWN = 60
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_HIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Budget:
    """How much to select, in tokens or in documents."""

    amount: int
    unit: Unit = "tokens"

    def __str__(self) -> str:
        return f"{self.amount} {self.unit}"


def parse_budget(tokens: str, docs: str, fraction: str, all_tokens: Callable[[], int]) -> Budget:
    """Return the budget of the one option that is given, the others being empty.

    ``all_tokens`` answers what a fraction is one of. Raises UsageError.
    """
    if sum(map(bool, (tokens, docs, fraction))) != 1:
        raise UsageError("give one of --tokens 5M, --docs 10K and --fraction 0.1.")
    if tokens:
        return Budget(parse_count(tokens), "tokens")
    if docs:
        return Budget(parse_count(docs, "--docs"), "docs")
    return Budget(max(1, round(_parse_fraction(fraction) * all_tokens())), "tokens")


def _parse_fraction(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise UsageError(f"--fraction {shorten(text)}: expected more than 0 and at most 1.")
    return share


def parse_share(text: str, option: str) -> float:
    """Return a share such as ``1%`` or ``0.01``; raises UsageError.

    >>> parse_share("1%", "--max-bad"), parse_share("0", "--max-bad")
    (0.01, 0.0)
    """
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise UsageError(f"{option} {shorten(text)}: expected 0 to 1, or 0% to 100%.")
    return share


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
        raise UsageError(
            f"{option} {shorten(text)} is not a number; write 5M or 1.5B, say."
        ) from error
    if not 1 <= value <= LARGEST_COUNT:
        raise UsageError(f"{option} {shorten(text)}: expected at least 1 and at most 1e18.")
    return round(value)


def parse_part(text: str) -> tuple[int, int]:
    """Return (i, n) of ``i/n``, i from 0; raises UsageError.

    >>> parse_part("2/8")
    (2, 8)
    """
    index, slash, count = text.partition("/")
    numbers = parse_digits(index), parse_digits(count)
    if not slash or numbers[0] is None or numbers[1] is None or not numbers[0] < numbers[1]:
        raise UsageError(
            f"--shard {shorten(text)}: expected i/n with i from 0 to n - 1, such as 0/8."
        )
    return numbers[0], numbers[1]


def parse_digits(text: str) -> int | None:
    """Return the number that a text of plain digits is, or None; 20 digits at most.

    Not ``str.isdigit``, to which ² is a digit, and not ``int`` alone, which refuses thousands of
    digits with an error of its own.
    """
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else None


def parse_numbers(parts: Sequence[str], largest: int) -> tuple[int, ...] | None:
    """Return different whole numbers from 0 to ``largest``; None where there is anything else."""
    found = [parse_digits(part.strip()) for part in parts]
    numbers = tuple(number for number in found if number is not None and number <= largest)
    return numbers if len(set(numbers)) == len(found) else None


def shorten(value: object) -> str:
    """Return a value as a message shows it, a text in quotes; a long one is cut.

    >>> shorten("x" * 70)[-18:]
    "'… (70 characters)"
    """
    if isinstance(value, str) and len(value) > _SHOWN:
        return f"{value[:_SHOWN]!r}… ({len(value)} characters)"
    if isinstance(value, int) and abs(value) > 10**_SHOWN:  # Python spells 4,300 digits at most
        return f"a number of more than {_SHOWN} digits"
    text = repr(value)
    return text if isinstance(value, str) or len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def visible(text: str, keep: str = "") -> str:
    """Return a text in which characters that steer a terminal are escaped, as in ``\\x1b``.

    Names come from the user's corpus: without this, one could move the cursor, set the window's
    title or turn the line around. ``keep`` are control characters that are meant.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or not _steers(c) else _escaped(c) for c in text)


def visible_json(text: str) -> str:
    """Return JSON in which such characters are escaped as JSON does it; its value is the same."""
    return "".join(f"\\u{ord(c):04x}" if _steers(c) and c != "\n" else c for c in text)


def _steers(character: str) -> bool:
    return character in _BIDI or unicodedata.category(character) in _HIDDEN


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
