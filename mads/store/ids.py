"""The user's own ids: how many rows lack one, and how many share one with a row before them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from mads.corpus.ids import hash_id
from mads.store.manifest import IdCounts

PART_ROWS = 2**25  # whose hashes are held at a time, 8 bytes each


def count_ids(
    shards: Callable[[], Iterable[list[str | None]]], num_rows: int, part_rows: int = PART_ROWS
) -> IdCounts:
    """Count ids by 64 bits of their hashes; all shards are read once for every ``part_rows`` rows.

    Two different ids share a hash with a chance of n² / 2^65: 3% for a billion of them.
    """
    parts = -(-num_rows // part_rows) or 1
    missing = repeated = 0
    for part in range(parts):
        hashes = [np.zeros(0, np.uint64)]
        for ids in shards():
            found = np.array([hash_id(text) for text in ids if text is not None], np.uint64)
            hashes.append(found[found % np.uint64(parts) == part])
            missing += ids.count(None) if part == 0 else 0
        hash_N = np.concatenate(hashes)
        repeated += len(hash_N) - len(np.unique(hash_N))
    return IdCounts(missing, repeated)
