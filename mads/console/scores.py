"""What the console says of documents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mads.errors import DataError
from mads.types import Cells, ConsoleState


def cell_scores(cells: Cells, state: ConsoleState) -> NDArray[np.float64]:
    """Equation 6 for each cell: ``Σ_A θ_A w_A[c_A]``; raises DataError when names do not match."""
    score_C = np.zeros(len(cells))
    for column, agent in enumerate(cells.agents):
        names = cells.categories[agent]
        weights = state.weights.get(agent)
        missing = [agent] if weights is None else [n for n in names if n not in weights]
        if weights is None or missing or agent not in state.theta:
            raise DataError(
                f"the console state has no weight for {missing or [agent]} of agent {agent!r}. "
                "Was it made with another store?"
            )
        table = np.array([weights[name] for name in names])
        score_C += state.theta[agent] * table[cells.category_CA[:, column]]
    return score_C
