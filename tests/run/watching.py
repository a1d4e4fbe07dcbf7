"""Who watches the runs of tests, and what of a run must not depend on how it was stopped."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mads.run.records import EndRecord, RoundRecord, StepRecord


class Quiet:
    """A watcher that remembers, and can stop the run after a step."""

    def __init__(self, stop_after: int = -1) -> None:
        self.steps: list[StepRecord] = []
        self.rounds: list[RoundRecord] = []
        self.ends: list[EndRecord] = []
        self.notes: list[str] = []
        self._stop_after = stop_after

    def step(self, record: StepRecord) -> None:
        self.steps.append(record)
        if record.step + 1 == self._stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    def round(self, record: RoundRecord | EndRecord) -> None:
        if isinstance(record, EndRecord):
            self.ends.append(record)
        else:
            self.rounds.append(record)

    def note(self, text: str) -> None:
        self.notes.append(text)


def facts(run: Path) -> dict[str, Any]:
    """Return everything about a run that must not depend on how it was stopped."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.get("refresh", {}).pop("seconds", None)
        line.get("effort", {}).pop("eval_s", None)
    noisy = {"tokens_per_s", "select_ms", "reward_s"}
    found: dict[str, Any] = {
        "metrics": [{k: v for k, v in line.items() if k not in noisy} for line in lines]
    }
    for path in sorted((run / "rounds").rglob("*")):
        if path.suffix == ".json":
            found[str(path.relative_to(run))] = json.loads(path.read_text())
        elif path.suffix == ".parquet":
            found[str(path.relative_to(run))] = pq.read_table(path).to_pydict()
    last = sorted((run / "checkpoints").glob("step-*"))[-1]
    for name in ("model.safetensors", "optimizer.safetensors"):
        found[name] = (last / name).read_bytes()
    return found
