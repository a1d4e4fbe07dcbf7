"""Every estimator has its section of the recipe, and the other way round."""

from __future__ import annotations

from mads.rewards.estimators import ESTIMATORS
from mads.rewards.sections import ESTIMATOR_SECTIONS


def test_sections_and_estimators_have_the_same_names() -> None:
    assert ESTIMATOR_SECTIONS.keys() == ESTIMATORS.keys()
