"""Reading console.json: what is not one is refused with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mads.console.state import console_to_json, read_console
from mads.errors import DataError
from mads.types import ConsoleState

STATE = ConsoleState(3, {"kind": {"a": 1.0, "b": -2.5}}, {"kind": 1.0})


def test_a_console_state_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "console.json"
    path.write_text(json.dumps(console_to_json(STATE)))
    assert read_console(path) == STATE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"theta": {"kind": float("nan")}}, r"theta\.kind is NaN, expected a number from -1e\+100"),
        ({"theta": {"kind": float("inf")}}, r"theta\.kind is Infinity, expected a number"),
        ({"weights": {"kind": {"a": float("-inf")}}}, r"weights\.kind\.a is -Infinity, expected"),
        ({"weights": {"kind": {"a": 1e200}}}, r"weights\.kind\.a is 1e\+200, expected a number"),
        ({"weights": {"kind": {"a": 10**400}}}, r"weights\.kind\.a is 1000.*, expected a number"),
        ({"weights": {"kind": {"a": "1"}}}, r"weights\.kind\.a is \"1\", expected a number"),
        ({"weights": {"kind": {"a": True}}}, r"weights\.kind\.a is true, expected a number"),
        ({"weights": {"kind": {"a": None}}}, r"weights\.kind\.a is null, expected a number"),
        ({"weights": {"kind": [1.0]}}, r"weights\.kind holds a list, expected an object"),
        ({"weights": []}, r"'weights' holds a list, expected a dict\. Give a console.json with"),
        ({"theta": 1}, r"'theta' holds a int, expected a dict"),
        ({"round": float("inf")}, r"'round' holds a float, expected a int"),
        ({"round": 1.5}, r"'round' holds a float, expected a int"),
        ({"round": True}, r"'round' holds a bool, expected a int"),
        ({"round": -1}, r"'round' is -1, expected 0 or more"),
    ],
)
def test_a_console_state_that_is_none(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "console.json"
    path.write_text(json.dumps(console_to_json(STATE) | change))
    with pytest.raises(DataError, match=rf"console\.json is not a console state: {message}"):
        read_console(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "found a list, expected an object with round, theta, weights"),
        ("{}", "it has no 'round'"),
        ('{"round": 1, "theta": {}}', "it has no 'weights'"),
    ],
)
def test_a_file_that_is_no_console_state(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "console.json"
    path.write_text(content)
    with pytest.raises(DataError, match=rf"console\.json is not a console state: {message}"):
        read_console(path)
