"""What the console says of documents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mads.errors import DataError, UsageError, did_you_mean
from mads.types import Cells, ConsoleState


def console_cells(cells: Cells, agents: Sequence[str]) -> Cells:
    """Return the cells as the agents of ``console.agents`` see them, all of them where it is empty.

    Raises UsageError for an agent that the store does not have.
    """
    for agent in agents:
        if agent not in cells.agents:
            near = did_you_mean(agent, cells.agents)
            raise UsageError(f"console.agents: the store has no agent {agent!r}; {near}")
    return cells.of_agents(agents) if agents else cells


def cell_scores(cells: Cells, state: ConsoleState) -> NDArray[np.float64]:
    """Equation 6 for each cell: ``Σ_A θ_A w_A[c_A]``, over agents that both sides have.

    Raises DataError when there is none, or when categories do not match.
    """
    score_C = np.zeros(len(cells))
    own = sorted({*state.weights} | {*state.theta})
    if not {*own} & {*cells.agents}:
        raise DataError(
            f"the console state is of the agents {', '.join(own) or 'none'}, but the store has "
            f"{', '.join(cells.agents)}. Was it made with another store?"
        )
    for column, agent in enumerate(cells.agents):
        if agent not in state.weights and agent not in state.theta:
            continue  # it does not count in this console
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
