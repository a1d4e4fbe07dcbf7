"""Hashed words and pairs of words."""

from __future__ import annotations

import zlib

import numpy as np

from mads.agents.grams import gram_buckets, symbol_buckets, word_symbols


def test_words_are_known_by_their_bytes() -> None:
    assert word_symbols("été 2 été").tolist() == [
        zlib.crc32(w.encode()) for w in ["été", "2", "été"]
    ]
    assert word_symbols("").tolist() == []


def test_symbols_and_pairs_are_counted_by_place() -> None:
    symbols = np.array([5, 7, 5, 7])
    found = gram_buckets(symbols, 1 << 14)
    assert len(found) == 7
    assert found[0] == found[2] != found[1] == found[3]
    assert found[4] == found[6] != found[5]  # 5 7, 7 5, 5 7
    assert (found[:4] == symbol_buckets(symbols, 1 << 14)).all()
    assert len(gram_buckets(np.array([9]), 1 << 14)) == 1
    assert len(gram_buckets(np.zeros(0, np.int64), 1 << 14)) == 0


def test_buckets_are_used_evenly() -> None:
    count_B = np.bincount(symbol_buckets(np.arange(100_000), 100), minlength=100)
    assert abs(count_B - 1000).max() < 150  # five standard deviations of 32
