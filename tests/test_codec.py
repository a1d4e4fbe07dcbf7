"""The one strict reader of typed values: everything wrong is told with its place."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mads.codec import Choice, Size, Within, build, convert, from_json, to_json
from mads.errors import DataError


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    count: Annotated[int, Within(0, 9)]
    names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Outer:
    number: float
    inner: Inner
    table: Mapping[str, Inner] = field(default_factory=dict)
    array: NDArray[np.int64] | None = None
    colour: Colour = Colour.RED
    kind: Literal["a", "b"] = "a"
    maybe: str | None = None
    anything: Any = None


WHOLE = {
    "number": 1.5,
    "inner": {"count": 3, "names": ["x", "y"]},
    "table": {"one": {"count": 1, "names": []}},
    "array": [1, 2, 3],
    "colour": "blue",
    "kind": "b",
    "maybe": "text",
    "anything": {"k": [1]},
}


def read(value: object) -> Outer:
    return from_json(Outer, value, Path("f.json"), "an outer", "Do this.")


def test_a_value_survives_the_round_trip() -> None:
    found = read(json.loads(json.dumps(WHOLE)))
    assert found.array is not None
    assert found.array.dtype == np.int64
    assert (found.colour, found.inner.names) == (Colour.BLUE, ("x", "y"))
    assert to_json(found) == WHOLE
    assert to_json(np.float64(1.5)) == 1.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"number": "1"}, "number: found '1', expected a number"),
        ({"number": True}, "number: found True, expected a number"),
        ({"number": math.nan}, "number: found nan, expected a number"),
        ({"number": 10**400}, "number: found a number of more than 60 digits, expected a number"),
        ({"inner": 3}, "inner: found 3, expected a section"),
        ({"inner": {}}, "inner.count: missing"),
        ({"inner": {"count": 10}}, "inner.count: found 10, expected 0 to 9"),
        ({"inner": {"count": 10**70}}, "inner.count: found a number of more than 60 digits"),
        ({"inner": {"count": 1.0}}, "inner.count: found 1.0, expected a whole number"),
        ({"inner": {"count": 1, "naems": []}}, "inner.naems: unknown key; did you mean 'names'?"),
        ({"inner": {"count": 1, "names": [1]}}, "inner.names[0]: found 1, expected a text"),
        ({"table": []}, "table: found [], expected a section"),
        ({"table": {"one": 1}}, "table.one: found 1, expected a section"),
        ({"array": [1.5]}, "array: expected a list of whole numbers"),
        ({"array": [2**70]}, "array: a number is too large"),
        ({"array": 3}, "array: expected a list of whole numbers"),
        ({"colour": "green"}, "colour: 'green' is not known; known: blue, red"),
        ({"kind": "c"}, "kind: 'c' is not known"),
        ({"maybe": 3}, "maybe: found 3, expected a text"),
        ({"number": "x" * 200}, "number: found '" + "x" * 60 + "'… (200 characters), "),
    ],
)
def test_what_is_wrong_is_told_with_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(WHOLE | change)
    assert str(caught.value).startswith(f"f.json is not an outer: {message}")
    assert str(caught.value).endswith(" Do this.")


@pytest.mark.parametrize("value", [None, [], 3, "x"])
def test_what_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(DataError, match=r"f\.json is not an outer: found .*, expected a section"):
        read(value)


def test_an_array_of_floats_must_be_finite() -> None:
    problems: list[str] = []
    found = convert(NDArray[np.float64], [1, 2.5], "a", problems)
    assert (found.tolist(), problems) == ([1.0, 2.5], [])
    convert(NDArray[np.float64], [1, math.inf], "a", problems)
    assert problems == ["a: a number is not finite"]


def test_all_problems_are_found_at_once() -> None:
    problems: list[str] = []
    build(Outer, {"inner": {"count": -1}, "kind": "z", "zzz": 1}, "", problems)
    assert [problem.split(":")[0] for problem in problems] == [
        *("inner.count", "kind", "zzz", "number")
    ]


@dataclass(frozen=True)
class Base:
    way: str


@dataclass(frozen=True)
class Fast(Base):
    speed: int = 3


def test_a_sections_type_follows_from_its_key() -> None:
    choices = {Base: Choice("way", "slow", {"slow": Base, "fast": Fast})}
    problems: list[str] = []
    assert build(Base, {}, "s", problems, choices) == Base("slow")
    assert build(Base, {"way": "fast", "speed": 4}, "s", problems, choices) == Fast("fast", 4)
    assert problems == []
    build(Base, {"way": "slow", "speed": 4}, "s", problems, choices)
    build(Base, {"way": "fsat"}, "s", problems, choices)
    assert problems == [
        's.speed: unknown key under way = "slow"; known: way',
        "s.way: 'fsat' is not known; did you mean 'fast'?",
    ]


def test_ranges_and_sizes() -> None:
    assert Within(0, 1).flaw(0.5) == Within(0, 1).flaw(1) == ""
    assert Within(1, 9).flaw(0) == "found 0, expected 1 to 9"
    assert Size().flaw("4GB") == ""
    assert "is not a size" in Size().flaw("much")


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=6))
def test_nothing_is_a_traceback(value: object) -> None:
    for key in WHOLE:
        try:
            read(WHOLE | {key: value})
        except DataError as error:
            assert str(error).startswith("f.json is not an outer: ")  # noqa: PT017
