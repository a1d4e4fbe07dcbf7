"""Reading plan.json: what is not one is refused with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mads.errors import DataError
from mads.selection.plan_file import read_plan

RANGE = {"cell": 0, "uses": 0, "score": 1, "start_row": 0, "stop_row": 2}
PLAN: dict[str, Any] = {
    "store": "f" * 64,
    "seed": 1,
    "ranges": [RANGE],
    "cursors": {"passes": [0], "row": [2], "tokens": [9]},
}


def test_a_plan_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(PLAN))
    assert read_plan(path, "f" * 64) == PLAN
    with pytest.raises(DataError, match=r"made with another store: found ffff.*, expected 0000"):
        read_plan(path, "0" * 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"store": None}, "'store' holds a NoneType, expected a str"),
        ({"seed": "1"}, "'seed' holds a str, expected a int"),
        ({"ranges": {}}, "'ranges' holds a dict, expected a list"),
        ({"ranges": [RANGE, 3]}, r"in ranges\[1\], found a int, expected an object with cell"),
        ({"ranges": [{"cell": 1}]}, r"in ranges\[0\], it has no 'uses'"),
        ({"ranges": [RANGE | {"cell": 0.5}]}, r"in ranges\[0\], 'cell' holds a float"),
        (
            {"ranges": [RANGE | {"score": float("nan")}]},
            r"in ranges\[0\], 'score' holds a float, expected a finite number",
        ),
        ({"cursors": []}, "'cursors' holds a list, expected a dict"),
        ({"cursors": {"passes": [], "row": []}}, "in cursors, it has no 'tokens'"),
        (
            {"cursors": {"passes": ["x"], "row": [0], "tokens": [0]}},
            r"cursors\.passes does not hold whole numbers only",
        ),
        (
            {"cursors": {"passes": [1], "row": [], "tokens": [0]}},
            r"the cursors' lengths differ: \[1, 0, 1\]",
        ),
    ],
)
def test_a_plan_that_is_none(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(PLAN | change))
    with pytest.raises(DataError, match=rf"plan\.json is no plan\.json: {message}.*Give one that"):
        read_plan(path, "f" * 64)


@pytest.mark.parametrize("key", sorted(PLAN))
def test_a_plan_without_a_key(tmp_path: Path, key: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({name: value for name, value in PLAN.items() if name != key}))
    with pytest.raises(DataError, match=f"is no plan.json: it has no '{key}'"):
        read_plan(path, "f" * 64)
