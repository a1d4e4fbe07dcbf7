"""Who watches a run."""

from __future__ import annotations

import pytest

from mads.run.records import EndRecord, RoundRecord, StepRecord
from mads.run.watcher import Silent, Watcher


def test_silence_hears_everything_and_shows_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    watcher: Watcher = Silent()
    watcher.step(StepRecord(1, 0, 7.0, 1e-3, 512, 1000.0, 0.5))
    watcher.round(RoundRecord(0, 0, 1.5, 10, {}, {}, {"planted": 7.0}))
    watcher.round(EndRecord(20, {"planted": 6.0}))
    watcher.note("weights were drawn together.")
    assert capfd.readouterr() == ("", "")
