"""The range of numbers in a console's state: what follows from them stays finite."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from mads.codec import from_json
from mads.config import LARGEST_WEIGHT as LARGEST
from mads.console.numbers import REMEDY, WHAT, Number
from mads.errors import DataError


@dataclass(frozen=True)
class Holder:
    value: Number


def read(value: object) -> float:
    return from_json(Holder, {"value": value}, Path("console.json"), WHAT, REMEDY).value


@pytest.mark.parametrize("value", [0.0, -1.5, LARGEST, -LARGEST, 3])
def test_a_number_within_the_range_is_read(value: float) -> None:
    assert read(value) == value


@pytest.mark.parametrize("value", [2e100, -2e100, math.inf, -math.inf, math.nan, "1", True, None])
def test_any_other_value_is_refused_with_its_place_and_what_to_do(value: object) -> None:
    with pytest.raises(DataError, match=r"console\.json is not a console state: value: ") as caught:
        read(value)
    assert str(caught.value).endswith(REMEDY)


def test_a_product_of_the_largest_over_the_least_temperature_is_finite() -> None:
    assert math.isfinite(LARGEST * LARGEST / 1e-6)
    assert math.isfinite(10 * (LARGEST * LARGEST / 1e-6))  # and a sum over agents
