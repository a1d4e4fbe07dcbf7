"""The console state's JSON, keyed by name."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mads.errors import DataError
from mads.files import read_json
from mads.types import Belief, ConsoleState

LARGEST = 1e100  # of a console state: a product of two, divided by a temperature, stays finite


def _flaw_of_object(value: object, kinds: Mapping[str, type]) -> str:
    """Return which key of a JSON object is missing or of another kind, or an empty text."""
    if not isinstance(value, dict):
        return f"found a {type(value).__name__}, expected an object with {', '.join(kinds)}"
    for name, kind in kinds.items():
        if name not in value:
            return f"it has no {name!r}"
        if not _is_a(value[name], kind):
            wanted = "finite number" if kind is float else kind.__name__
            return f"{name!r} holds a {type(value[name]).__name__}, expected a {wanted}"
    return ""


def _is_a(value: object, kind: type) -> bool:
    """Return whether a JSON value is of a kind; a whole number is a float too, if finite."""
    if kind is float:
        return _is_a(value, int) or (isinstance(value, float) and math.isfinite(value))
    return type(value) is kind


def console_to_json(state: ConsoleState) -> dict[str, Any]:
    """Return a console state as JSON values, keyed by name."""
    value: dict[str, Any] = {
        "round": state.round,
        "theta": dict(state.theta),
        "weights": {agent: dict(values) for agent, values in state.weights.items()},
    }
    if state.belief is not None:
        value["belief"] = dataclasses.asdict(state.belief)
    return value


def read_console(path: Path) -> ConsoleState:
    """Read a console state; raises DataError, with the place, for a file that is not one."""
    value = read_json(path)
    flaw = _flaw_of_object(value, {"round": int, "theta": dict, "weights": dict})
    if not flaw and value["round"] < 0:
        flaw = f"'round' is {value['round']}, expected 0 or more"
    if flaw:
        raise DataError(
            f"{path} is not a console state: {flaw}. Give a console.json with round, theta and "
            "weights, as `mads train` writes them."
        )
    return ConsoleState(
        round=value["round"],
        weights={
            agent: _numbers(path, f"weights.{agent}", table)
            for agent, table in value["weights"].items()
        },
        theta=_numbers(path, "theta", value["theta"]),
        belief=_belief(path, value.get("belief")),
    )


def _belief(path: Path, value: Any) -> Belief | None:
    if value is None:
        return None
    parts = {"mean": dict, "covariance": dict, "scale": dict}
    flaw = _flaw_of_object(value, parts)
    if not flaw and not all(row in value["covariance"] for row in value["mean"]):
        flaw = "'covariance' has not the names of 'mean'"
    if flaw:
        raise DataError(f"{path} is not a console state: belief: {flaw}.")
    return Belief(
        mean=_numbers(path, "belief.mean", value["mean"]),
        covariance={
            name: _numbers(path, f"belief.covariance.{name}", row)
            for name, row in value["covariance"].items()
        },
        scale=_numbers(path, "belief.scale", value["scale"]),
    )


def _numbers(path: Path, place: str, table: object) -> dict[str, float]:
    """Return a table of finite numbers; raises DataError, with the place, for anything else."""
    if not isinstance(table, dict):
        found = type(table).__name__
        raise DataError(
            f"{path} is not a console state: {place} holds a {found}, expected an object."
        )
    for name, number in table.items():
        if not _is_a(number, float) or abs(number) > LARGEST:
            shown = json.dumps(number, ensure_ascii=False)[:40]
            raise DataError(
                f"{path} is not a console state: {place}.{name} is {shown}, expected a number "
                f"from {-LARGEST:g} to {LARGEST:g}."
            )
    return {name: float(number) for name, number in table.items()}
