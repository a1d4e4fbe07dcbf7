"""All randomness: seeds derived by name and a stable 64-bit hash.

Nothing here depends on a library's release, the platform or the number of processes, so the same
seed gives the same order everywhere.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1


def derive(seed: int, *names: str | int) -> int:
    """Return a 64-bit seed for a named purpose, e.g. ``derive(seed, "order", round)``."""
    text = "\x1f".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def mix64(values: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Return a uniform 64-bit hash of each value (SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        x = values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed & _MASK)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def uniform(values: NDArray[np.uint64], seed: int) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each value."""
    return (mix64(values, seed) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def shuffled(values: NDArray[np.uint64], seed: int) -> NDArray[np.int64]:
    """Return the indices that put ``values`` into a seeded order that their order cannot change."""
    return np.lexsort((values, mix64(values, seed)))
