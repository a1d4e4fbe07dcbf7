"""No preference."""

from __future__ import annotations

from strategies.test_strategies import CELLS, RECIPE

from mads.strategies.strategy import Evidence
from mads.strategies.uniform import Random


def test_every_cell_scores_the_same_and_nothing_is_measured() -> None:
    found = Random.start(CELLS, RECIPE)
    assert found.needs is Evidence.NOTHING
    assert set(found.scores(CELLS).tolist()) == {1.0}
    assert (found.theta, found.weights) == ({}, {})
    assert found.to_json() == {"strategy": "random", "round": 0}
