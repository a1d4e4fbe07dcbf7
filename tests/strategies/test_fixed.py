"""Weights that are given and stay."""

from __future__ import annotations

from console.toy import feedback, reward
from strategies.test_strategies import CELLS, RECIPE

from mads.strategies.fixed import Fixed
from mads.strategies.strategy import Evidence


def test_its_weights_are_the_priors_in_every_round() -> None:
    found = Fixed.start(CELLS, RECIPE)
    assert found.needs is Evidence.NOTHING
    for _ in range(2):
        assert found.weights == {"kind": {"a": 1.0, "b": 2.0}}
        assert found.scores(CELLS).tolist() == [1.0, 2.0]
        found = found.next_round()
    after = found.updated(feedback({"kind": {"a": reward(9.0), "b": reward(-1.0)}})).strategy
    assert after.weights == found.weights
