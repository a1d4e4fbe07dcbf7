"""The processes that train one model together. By default there is one.

Code says what all of them agree on and never who talks to whom: a sum, a flag, a value of the
main process. Parameters may be cut into parts, one on each process, so a norm or a dot product
over parameters is a local float64 sum that is summed once over the world.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process's place among ``size``; alone, every exchange gives back what it was given."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process plans, writes files and talks to the user."""
        return self.rank == 0

    def sum(self, value_K: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of all processes' arrays, which have one shape."""
        return value_K

    def total(self, value: float) -> float:
        """Return the sum of all processes' numbers."""
        return float(self.sum(np.array([value], np.float64))[0])

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in at least one process."""
        return self.total(float(flag)) > 0

    def broadcast(self, value: T) -> T:
        """Return the main process's value."""
        return value

    def barrier(self) -> None:
        """Wait until all processes are here."""


ALONE = World()
