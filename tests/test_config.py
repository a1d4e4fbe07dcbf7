"""Every number of a recipe has its range beside it, and its default lies within."""

from __future__ import annotations

import dataclasses
import typing
from typing import Annotated, Any

import pytest

from mads.agents import BACKEND_SECTIONS
from mads.codec import Within
from mads.config import RESERVED_NAMES, Recipe
from mads.console import RULE_SECTIONS
from mads.recipe import recipe_from_table
from mads.rewards.sections import ESTIMATOR_SECTIONS

FREE = {"edges"}
"""Numbers that may be anything, if they rise."""

RECIPE = recipe_from_table({}, "defaults")
SECTIONS: list[type[Any]] = [
    *(type(getattr(RECIPE, f.name)) for f in dataclasses.fields(Recipe)),
    *(*BACKEND_SECTIONS.values(), *RULE_SECTIONS.values(), *ESTIMATOR_SECTIONS.values()),
]


@pytest.mark.parametrize(
    "section", [s for s in dict.fromkeys(SECTIONS) if dataclasses.is_dataclass(s)]
)
def test_numbers_have_ranges_that_hold_their_defaults(section: type[Any]) -> None:
    hints = typing.get_type_hints(section, include_extras=True)
    for field in dataclasses.fields(section):
        hint = hints[field.name]
        if _is_bare(hint):
            assert field.name in FREE, f"{section.__name__}.{field.name} has no range"
        if typing.get_origin(hint) is Annotated:
            check = hint.__metadata__[0]
            assert check.flaw(field.default) == "", f"{section.__name__}.{field.name}"
            if isinstance(check, Within):
                assert check.low < check.high


def _is_bare(hint: Any) -> bool:
    """Tell whether a number, or one inside of a list or table, has no range beside it."""
    inside = () if typing.get_origin(hint) is Annotated else typing.get_args(hint)
    return hint in (int, float) or any(map(_is_bare, inside))


def test_names_of_our_own_columns_are_reserved() -> None:
    assert {"doc", "cell", "score", "category", "reward"} - RESERVED_NAMES == {"category"}
