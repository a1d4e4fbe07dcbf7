"""How a run ended: result.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mads.codec import from_json, to_json
from mads.errors import DataError
from mads.files import read_sealed_json, write_sealed_json
from mads.run.ledger import Ledger

REMEDY = "Run the same `mads train` again; it writes the file anew."


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended; ``theta`` and ``weights`` are empty under a strategy without them."""

    steps: int
    rounds: int
    tokens: int
    losses: Mapping[str, float]  # of reference and evaluation tasks, at the end
    guards: Mapping[str, int]  # how often each guard rail acted, in all rounds
    strategy: str
    theta: Mapping[str, float]
    weights: Mapping[str, Mapping[str, float]]
    ledger: Ledger | None = None  # what the run has cost, by stage


def write_result(path: Path, result: TrainResult) -> None:
    """Write result.json."""
    write_sealed_json(path, to_json(result))


def read_result(path: Path) -> TrainResult | None:
    """Read result.json; None while the run goes on. Raises DataError for a damaged one."""
    if not path.is_file():
        return None
    value = read_sealed_json(path, REMEDY)
    return from_json(TrainResult, value, path, "the result of a run", REMEDY)


def whole_result(path: Path) -> TrainResult | None:
    """Return what ``read_result`` does, but None for a damaged one: it can be made again."""
    try:
        return read_result(path)
    except DataError:
        return None
