"""A mixture that keeps some of the corpus's variety, whatever the scores say.

First-order rewards do not turn when a category is read too much: one that alone keeps a positive
reward would end with all of a round. So the temperature of `sample` is raised until the entropy of
each agent's mixture is at least a given part of the corpus's:

    least 0.5, corpus (0.5, 0.5), H = 0.69:  (0.95, 0.05), H = 0.20, is too little, (0.89, 0.11) not
    seven equal categories, H = 1.95:        (0.6, 0.3, 0.1, 0 …), H = 0.90, is too little
"""

from __future__ import annotations

import numpy as np

from mads.types import Cells, Floats

LARGEST = 1e9  # a temperature at which scores say nothing
HALVINGS = 60


def entropies(cells: Cells, weight_C: Floats) -> Floats:
    """Return the entropy of each agent's mixture in nats, shape (A,); weights need no sum of 1."""
    share_C = weight_C / weight_C.sum()
    found = []
    for column in range(len(cells.agents)):
        share_J = np.bincount(cells.category_CA[:, column], share_C)
        read_J = share_J[share_J > 0]
        found.append(-float(read_J @ np.log(read_J)))
    return np.array(found)


def spread_temperature(cells: Cells, score_C: Floats, temperature: float, least: float) -> float:
    """Return the temperature, raised as far as the least entropy asks for.

    ``least`` is a part of the corpus's entropy, the same for every agent, below 1; 0 = none.
    """
    if not least:
        return temperature
    corpus_C = cells.num_tokens_C.astype(np.float64)
    goal_A = least * entropies(cells, corpus_C)

    def is_spread(log_temperature: float) -> bool:
        log_C = score_C * np.exp(-log_temperature)
        tilted_C = corpus_C * np.exp(log_C - log_C.max())
        return bool((entropies(cells, tilted_C) >= goal_A - 1e-12).all())

    low, high = float(np.log(temperature)), float(np.log(LARGEST))
    if is_spread(low) or low >= high:
        return temperature
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_spread(middle) else (middle, high)
    return float(np.exp(high))
