"""metrics.jsonl: one JSON object per line, in the order in which things happened."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mads.files import write_text


class Metrics:
    """metrics.jsonl: one JSON object per line, in the order in which things happened."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record."""
        with self._path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(record) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """Return all records; half a line, as a killed process leaves it, is left out."""
        if not self._path.is_file():
            return []
        records = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
        return records

    def cut(self, step: int, *, keep_end: bool) -> None:
        """Forget what happened after the checkpoint that a run goes on from."""
        kept = [
            record
            for record in self.read()
            if record["step"] < step or (keep_end and record["kind"] == "end")
        ]
        write_text(self._path, "".join(json.dumps(record) + "\n" for record in kept))

    def find(self, kind: str) -> dict[str, Any] | None:
        """Return the last record of a kind, or None."""
        return next((r for r in reversed(self.read()) if r["kind"] == kind), None)

    def sync(self) -> None:
        """Make what was written so far survive a power cut."""
        with self._path.open("rb") as handle:
            os.fsync(handle.fileno())
