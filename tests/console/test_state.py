"""The console state's JSON: what is not one is refused with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mads.console.bayes import Belief
from mads.console.state import console_to_json, read_console
from mads.errors import DataError
from mads.files import write_sealed_json
from mads.types import ConsoleState

NAMES = ("kind/a", "kind/b")
BELIEF = Belief(
    dict.fromkeys(NAMES, 0.5),
    {one: {other: float(one == other) for other in NAMES} for one in NAMES},
    {"kind": 0.3},
)
STATE = ConsoleState(3, {"kind": {"a": 1.0, "b": -2.5}}, {"kind": 1.0}, "bayes", BELIEF)


def test_a_state_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "console.json"
    write_sealed_json(path, console_to_json(STATE))
    assert read_console(path) == STATE


def test_a_file_by_hand_needs_round_theta_and_weights_only(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"round": 0, "theta": {"kind": 1}, "weights": {"kind": {"a": 2}}}')
    assert read_console(path) == ConsoleState(0, {"kind": {"a": 2.0}}, {"kind": 1.0})


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "console.json"
    write_sealed_json(path, console_to_json(STATE))
    path.write_text(path.read_text().replace("-2.5", "-3.5"))
    with pytest.raises(DataError, match=r"was changed: .*remove its 'sha256'"):
        read_console(path)


NUMBER = r"expected a number"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"theta": {"kind": float("nan")}}, rf"theta\.kind: found nan, {NUMBER}"),
        ({"theta": {"kind": float("inf")}}, rf"theta\.kind: found inf, {NUMBER}"),
        ({"weights": {"kind": {"a": float("-inf")}}}, rf"weights\.kind\.a: found -inf, {NUMBER}"),
        (
            {"weights": {"kind": {"a": 1e200}}},
            r"weights\.kind\.a: found 1e\+200, expected -1e\+100 to",
        ),
        ({"weights": {"kind": {"a": 10**400}}}, r"weights\.kind\.a: found a number of more than"),
        ({"weights": {"kind": {"a": "1"}}}, rf"weights\.kind\.a: found '1', {NUMBER}"),
        ({"weights": {"kind": {"a": True}}}, rf"weights\.kind\.a: found True, {NUMBER}"),
        ({"weights": {"kind": {"a": None}}}, rf"weights\.kind\.a: found None, {NUMBER}"),
        ({"weights": {"kind": [1.0]}}, r"weights\.kind: found \[1\.0\], expected a section"),
        ({"weights": []}, r"weights: found \[\], expected a section\. Give a console.json as"),
        ({"theta": 1}, r"theta: found 1, expected a section"),
        ({"round": float("inf")}, r"round: found inf, expected a whole number"),
        ({"round": 1.5}, r"round: found 1\.5, expected a whole number"),
        ({"round": True}, r"round: found True, expected a whole number"),
        ({"round": -1}, r"round: found -1, expected 0 to"),
        ({"rule": "bayess"}, r"the rule 'bayess' is not known; did you mean 'bayes'\?"),
        ({"rule": "paper"}, r"the rule 'paper' has no memory"),
        ({"rule": ""}, r"the rule '' has no memory"),
        ({"memory": {"mean": {}}}, r"covariance: missing"),
        ({"weights": {"kind": {"a": 1.0}}}, r"its memory is not of the categories of its weights"),
        ({"belief": {}}, r"belief: unknown key"),
    ],
)
def test_what_is_no_state_is_refused_with_its_place(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "console.json"
    path.write_text(json.dumps(console_to_json(STATE) | change))
    with pytest.raises(DataError, match=rf"console\.json is not a console state: {message}"):
        read_console(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds a list, expected an object"),
        ("{}", "is not a console state: round: missing"),
        ('{"round": 1, "theta": {}}', "is not a console state: weights: missing"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_a_file_that_is_no_console_state(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "console.json"
    path.write_text(content)
    with pytest.raises(DataError, match=rf"console\.json {message}"):
        read_console(path)
