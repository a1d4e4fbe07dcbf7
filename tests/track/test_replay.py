"""What of a run becomes points, also while it goes on and when it has gone back."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest
from track.fakes import FAKES, Shelf, install

from mads.run.reader import Run
from mads.run.records import SkippedRecord
from mads.store.store import Store
from mads.track import replay
from mads.track.replay import composition_of, points, track


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    shelf = Shelf()
    install(monkeypatch, FAKES["wandb"](shelf))
    return shelf


def test_what_was_read_is_the_rounds_composition(
    finished: Path, store: Store, tmp_path: Path, shelf: Shelf
) -> None:
    """From the selection alone, as the plan and the store's cells have it."""
    for one in Run(finished).rounds:
        found = composition_of(one.selection())
        for agent, table in one.read(store).items():
            assert {n: s for n, s in table.items() if s} == pytest.approx(found[agent])
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    track(run, "wandb", "mads", follow=False)
    (sent,) = shelf.runs.values()
    read = composition_of(Run(run).rounds[2].selection())
    assert sent[10]["read/kind/useful"] == read["kind"]["useful"]


def test_a_skipped_step_is_a_point() -> None:
    assert points(SkippedRecord(3, 0, "nan", 512, 1.0), {}) == {"train/skipped": 1.0}


def test_a_run_is_followed_until_it_ends(
    finished: Path, tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "POLL_SECONDS", 0.01)
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    result = (run / "result.json").read_bytes()
    (run / "result.json").unlink()
    (run / "metrics.jsonl").write_text("".join(lines[:3]))

    def grow() -> None:
        for line in lines[3:]:
            with (run / "metrics.jsonl").open("a") as handle:
                handle.write(line[:10])
                handle.flush()
                time.sleep(0.002)
                handle.write(line[10:])
        (run / "result.json").write_bytes(result)

    thread = threading.Thread(target=grow)
    thread.start()
    found = track(run, "wandb", "mads", follow=True)
    thread.join()
    assert found.records == len(lines)
    assert max(next(iter(shelf.runs.values()))) == 20


def test_a_run_that_went_back_is_told_and_sends_no_step_twice(
    finished: Path, tmp_path: Path, shelf: Shelf
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    path = run / "metrics.jsonl"
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    path.write_text("".join(lines[:13]))
    track(run, "wandb", "mads", follow=False)
    path.write_text(
        "".join(line.replace('"tokens_per_s": ', '"tokens_per_s": 1') for line in lines)
    )
    notes: list[str] = []
    found = track(run, "wandb", "mads", follow=False, note=notes.append)
    assert found.records == len(lines) - 13
    (note,) = notes
    assert note.startswith("the run went back to an older checkpoint since; what was sent of steps")
