"""What strategies without weights share: every cell scores the same."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mads.strategies.strategy import Weights
from mads.types import Cells, Floats


class Unweighted:
    """No preference within what a strategy leaves open."""

    __slots__ = ()

    @property
    def learned(self) -> bool:
        """No evidence has moved weights that are not there."""
        return False

    @property
    def theta(self) -> Mapping[str, float]:
        """Nothing."""
        return {}

    @property
    def weights(self) -> Weights:
        """Nothing."""
        return {}

    @property
    def losses_of(self) -> str:
        """Nothing."""
        return ""

    def scores(self, cells: Cells) -> Floats:
        """Return 1 for every cell."""
        return np.ones(len(cells))
