"""Ids of documents, as a corpus or a table beside it spells them."""

from __future__ import annotations

import hashlib


def id_of(value: object) -> str | None:
    """Return a record's value as an id: a text, or a whole number as its digits; else None.

    >>> id_of("a"), id_of(7), id_of(True), id_of("")
    ('a', '7', None, None)
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).encode("utf-8", "replace").decode() or None


def hash_id(text: str) -> int:
    """Return 64 bits of an id's hash; two of n ids share them with a chance of n² / 2^65."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
