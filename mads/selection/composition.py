"""How tokens are shared by categories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from mads.types import Cells

Composition = Mapping[str, Mapping[str, float]]
"""Agent -> category -> share."""
Shares = dict[str, dict[str, list[float]]]
"""Agent -> category -> shares of tokens (before, after)."""


def shares(cells: Cells, amount_C: NDArray[Any]) -> dict[str, dict[str, float]]:
    """Return how an amount of each cell (tokens, documents) is shared by categories."""
    total = max(amount_C.sum(), 1)
    found = {}
    for agent, names in cells.categories.items():
        share_J = cells.by_category(agent, amount_C) / total
        found[agent] = dict(zip(names, share_J.tolist(), strict=True))
    return found


def composition(cells: Cells, before_C: NDArray[Any], after_C: NDArray[Any]) -> Shares:
    """Return each category's share of the tokens in two distributions over cells."""
    before, after = shares(cells, before_C), shares(cells, after_C)
    return {
        agent: {name: [share, after[agent][name]] for name, share in table.items()}
        for agent, table in before.items()
    }
