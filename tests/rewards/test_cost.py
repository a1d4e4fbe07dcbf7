"""What rewards cost, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mads.rewards.cost import BACKWARD, COSTS, FORWARD, STEP, ModelShape, Work, reward_flops
from mads.rewards.estimators import ESTIMATORS

WORK = Work(probes=10, probe_tokens=1000, directions=3, reference_tokens=50, oracle_docs=0)


def test_a_tokens_operations_by_hand() -> None:
    """6·N + 12·L·d·T for a step, a third of it for a forward pass."""
    shape = ModelShape(parameters=1000, layers=3, width=10)
    assert shape.token_flops(STEP, 5) == 6 * 1000 + 12 * 3 * 10 * 5
    assert shape.token_flops(FORWARD, 5) == 2 * 1000 + 4 * 3 * 10 * 5
    assert shape.token_flops(STEP, 5) == sum(shape.token_flops(p, 5) for p in (FORWARD, BACKWARD))


def test_every_estimator_has_a_cost() -> None:
    assert COSTS.keys() == ESTIMATORS.keys()


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        ("forward", 6 * 50 + 2 * 2 * 3 * 1000),  # two forward passes for each direction
        ("gradient", 6 * 50 + 6 * 1000),
        ("one_step", 6 * 50 + 6 * 1000 + 2 * 11 * 50),  # the reference loss before and after each
        ("projected", 6 * 50 + 6 * 1000 + 6 * 50),
    ],
)
def test_forward_passes_and_gradients_are_counted(estimator: str, expected: float) -> None:
    assert reward_flops(estimator, WORK) == expected


def test_the_documents_of_the_oracle_are_measured_twice() -> None:
    checked = replace(WORK, oracle_docs=2)  # 200 of the 1000 tokens
    assert reward_flops("forward", checked) - reward_flops("forward", WORK) == 6 * 200
    assert reward_flops("gradient", checked) == reward_flops("gradient", WORK)
    everything = replace(WORK, oracle_docs=99)
    assert reward_flops("forward", everything) - reward_flops("forward", WORK) == 6 * 1000
