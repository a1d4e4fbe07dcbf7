"""Where rewards fall with what is read, the best mixture is known: who finds it, and who swings."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from mads.console import RULES, update
from mads.evaluation.plant import Course, Plant, make_plant, run_plant
from mads.types import Cells, ConsoleState, Feedback

WORLDS, ROUNDS, PER_CATEGORY = 200, 15, 16


def by_hand() -> Plant:
    """Two cells of equal size, of which one is worth log 3 · depth more."""
    cells = Cells(
        ("kind",),
        {"kind": ("a", "b")},
        np.array([[0], [1]], np.uint16),
        np.array([100, 100]),
        np.array([100, 100]),
        np.array([0, 100]),
    )
    return Plant(cells, np.array([0.5 * np.log(3), 0.0]), 0.5, 1.0, 0)


def test_the_best_mixture_is_where_marginal_rewards_are_equal() -> None:
    plant = by_hand()
    assert plant.best.tolist() == pytest.approx([0.75, 0.25])
    marginal = plant.value_C - plant.depth * np.log(plant.best / plant.corpus)
    assert marginal[0] == pytest.approx(marginal[1])
    # U(p*) = 0.75 · 0.5 log 3 − 0.5 · (0.75 log 1.5 + 0.25 log 0.5) = 0.5 · log 2
    assert plant.utility(plant.best) == pytest.approx(0.5 * np.log(2))
    assert (plant.regret(plant.best), plant.regret(plant.corpus)) == (0.0, 1.0)
    for share in (0.5, 0.74, 0.76, 0.99):
        assert plant.regret(np.array([share, 1 - share])) > 0


@cache
def courses(rule: str) -> list[Course]:
    section = RULES[rule].section(rule=rule)

    def step(state: ConsoleState, feedback: Feedback) -> ConsoleState:
        return update(state, feedback, section).state

    return [run_plant(make_plant(seed), step, ROUNDS, PER_CATEGORY) for seed in range(WORLDS)]


def test_a_rule_that_follows_rewards_swings() -> None:
    """What was seen in runs: 0.7 and more of a mixture exchanged from one round to the next."""
    swings = [course.swings.max() for course in courses("bayes")]
    assert np.median(swings) > 0.4
    assert np.median([course.regret_R[-5:].mean() for course in courses("bayes")]) > 0.3


def test_mirror_comes_to_rest_near_the_best_mixture() -> None:
    found = courses("mirror")
    assert max(course.swings.max() for course in found) < 0.3
    assert np.median([course.swings[-5:].mean() for course in found]) < 0.05
    regret = np.array([course.regret_R[-5:].mean() for course in found])
    assert np.median(regret) < 0.15
    better = [course.regret_R[-5:].mean() for course in courses("bayes")]
    assert (regret < better).mean() > 0.8
