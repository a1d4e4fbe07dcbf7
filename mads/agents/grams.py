"""Hashed words and pairs of words: what the back-ends without fastText know of a text.

A word is known by the CRC-32 of its UTF-8 bytes, a symbol of 32 bits like a token's number, and a
text by the buckets of its symbols and of its pairs of neighbours (hashed n-grams: Xie et al. 2023).
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from mads.seeds import mix64


def word_symbols(cleaned: str) -> NDArray[np.int64]:
    """Return a symbol below 2³² for each word of a cleaned text, shape (words,)."""
    return np.array([crc32(word) for word in cleaned.encode().split()], np.int64)


def symbol_buckets(symbol_T: NDArray[np.int64], buckets: int) -> NDArray[np.int64]:
    """Return the bucket of each of T symbols."""
    return _buckets(mix64(symbol_T.astype(np.uint64), 1), buckets)


def gram_buckets(symbol_T: NDArray[np.int64], buckets: int) -> NDArray[np.int64]:
    """Return the buckets of T symbols below 2³² and their T − 1 pairs, shape (2T − 1,)."""
    wide_T = symbol_T.astype(np.uint64)
    pair_T = (wide_T[:-1] << np.uint64(32)) | wide_T[1:]
    return _buckets(np.concatenate([mix64(wide_T, 1), mix64(pair_T, 2)]), buckets)


def _buckets(hashed_T: NDArray[np.uint64], buckets: int) -> NDArray[np.int64]:
    return (hashed_T % np.uint64(buckets)).astype(np.int64)
