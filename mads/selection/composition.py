"""How tokens are shared by categories."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mads.types import Cells

Shares = dict[str, dict[str, list[float]]]
"""Agent -> category -> shares of tokens (before, after)."""


def composition(cells: Cells, before_C: NDArray[Any], after_C: NDArray[Any]) -> Shares:
    """Return each category's share of the tokens in two distributions over cells."""
    result: Shares = {}
    for column, agent in enumerate(cells.agents):
        names = cells.categories[agent]
        pair = [
            np.bincount(cells.category_CA[:, column], tokens_C, len(names)) / max(tokens_C.sum(), 1)
            for tokens_C in (before_C, after_C)
        ]
        result[agent] = {name: [float(share[i]) for share in pair] for i, name in enumerate(names)}
    return result
