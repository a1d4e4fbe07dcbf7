"""The console state's JSON, keyed by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from mads.codec import Within, from_json, to_json
from mads.console import RULES
from mads.console.numbers import REMEDY, WHAT, Number
from mads.errors import DataError, did_you_mean
from mads.files import read_sealed_json
from mads.types import ConsoleState


@dataclass(frozen=True, slots=True)
class SavedConsole:
    """What console.json holds. A file that was written by hand has the first three keys only."""

    round: Annotated[int, Within(0, 2**40)]
    theta: Mapping[str, Number]
    weights: Mapping[str, Mapping[str, Number]]
    strategy: str = "console"
    rule: str = ""
    memory: Any = None


def console_to_json(state: ConsoleState, strategy: str = "console") -> dict[str, Any]:
    """Return a console state as JSON values, with the strategy that it is the state of."""
    saved = SavedConsole(
        state.round, state.theta, state.weights, strategy, state.rule, to_json(state.memory)
    )
    values: dict[str, Any] = to_json(saved)
    return values


def console_from_json(value: object, path: Path) -> ConsoleState:
    """Return a console state from JSON values; raises DataError, with the place, for a bad one."""
    saved = from_json(SavedConsole, value, path, WHAT, REMEDY)
    state = ConsoleState(saved.round, saved.weights, saved.theta, saved.rule)
    if saved.rule and saved.rule not in RULES:
        raise DataError(
            f"{path} is not {WHAT}: the rule {saved.rule!r} is not known; "
            f"{did_you_mean(saved.rule, RULES)}"
        )
    if saved.memory is None:
        return state
    read = RULES[saved.rule].read_memory if saved.rule else None
    if read is None:
        raise DataError(f"{path} is not {WHAT}: the rule {saved.rule!r} has no memory. {REMEDY}")
    return replace(state, memory=read(saved.memory, state, path))


def read_console(path: Path) -> ConsoleState:
    """Read a console state, also one that was written by hand.

    Raises DataError, with the place, for a file that is not one or was changed.
    """
    return console_from_json(read_sealed_json(path, REMEDY, by_hand=True), path)
