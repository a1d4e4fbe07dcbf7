"""Every tracker gets what metrics.jsonl says, once, under a stand-in for its package."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from command import mads
from track.fakes import FAKES, Points, Shelf, install

from mads.errors import DataError, UsageError
from mads.track.replay import track
from mads.track.trackers import TRACKERS


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "my run"))


def expected(run: Path) -> Points:
    """Return what a plain reading of metrics.jsonl asks for."""
    found: Points = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        values = found.setdefault(record["step"], {})
        if record["kind"] == "step":
            for name in ("loss", "grad_norm", "learning_rate", "tokens_per_s"):
                values[f"train/{name}"] = record[name]
            continue
        values |= {f"loss/{task}": loss for task, loss in record["losses"].items()}
        if record["kind"] == "end":
            continue
        values |= {"round": record["round"], "round/documents": record["num_docs"]}
        values |= {f"theta/{agent}": value for agent, value in record["theta"].items()}
        for agent, table in record["weights"].items():
            values |= {f"w/{agent}/{name}": value for name, value in table.items()}
        for name, count in {**record.get("guards", {}), **record.get("alarms", {})}.items():
            values[f"guards/{name}"] = count
        if "reward_s" in record:
            values |= {"rewards/seconds": record["reward_s"], "rewards/probes": record["probes"]}
    return found


def test_every_tracker_has_a_stand_in() -> None:
    assert TRACKERS.keys() == FAKES.keys()


def without_read(points: Points) -> Points:
    """Leave out what rounds have read, which stands in their selections."""
    return {
        step: {name: value for name, value in values.items() if not name.startswith("read/")}
        for step, values in points.items()
    }


@pytest.mark.parametrize("name", TRACKERS)
def test_what_is_logged_is_the_file_and_once(
    run: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    shelf = Shelf()
    install(monkeypatch, FAKES[name](shelf))
    whole = (run / "metrics.jsonl").read_text()
    lines = whole.splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:9]) + lines[9][:20])  # as while it is written
    first = track(run, name, "mine", follow=False)
    assert first.records == 9
    (run / "metrics.jsonl").write_text(whole)
    second = track(run, name, "mine", follow=False)
    assert second.records == len(lines) - 9
    assert track(run, name, "mine", follow=False).records == 0
    assert second.step == 20
    (points,) = shelf.runs.values()
    assert without_read(points) == expected(run)
    assert len(set(shelf.opened)) == 1
    assert shelf.closed == 3
    if name != "tensorboard":
        assert shelf.project == "mine"
    if name in ("wandb", "trackio"):
        assert shelf.config["training"]["steps"] == 20


@pytest.mark.parametrize("name", TRACKERS)
def test_a_package_that_is_missing_is_told(
    run: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for module in FAKES[name](Shelf()):
        monkeypatch.setitem(sys.modules, module, None)
    message = re.escape(f'is not installed. Run `pip install "mads[{name}]"`')
    with pytest.raises(UsageError, match=rf"--to {name}: the package '[\w.]+' {message}"):
        track(run, name, "mads", follow=False)
    assert not list(run.glob("tracked*"))


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_fails_is_told_and_gone_on_with(
    run: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    shelf = Shelf(failing=True)
    install(monkeypatch, FAKES[name](shelf))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    message = r"failed after step -1: ConnectionError: no route to host\. The run is not concerned"
    with pytest.raises(DataError, match=message):
        track(run, name, "mads", follow=False)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    shelf.failing = False
    track(run, name, "mads", follow=False)
    assert without_read(next(iter(shelf.runs.values()))) == expected(run)


def test_unknown_and_damaged(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = mads(capsys, "track", run, "--to", "wandbb")
    assert code == 2
    assert "--to 'wandbb' is not known; did you mean 'wandb'?" in err
    install(monkeypatch, FAKES["wandb"](Shelf()))
    code, out, err = mads(capsys, "track", run, "--to", "wandb", "--json")
    assert (code, json.loads(out)["records"]) == (0, 25), err
    note = run / "tracked-wandb.json"
    note.write_text(note.read_text().replace('"rank": 2', '"rank": 1'))
    with pytest.raises(DataError, match=r"tracked-wandb\.json was changed: .* sent once more"):
        track(run, "wandb", "mads", follow=False)


@pytest.mark.skipif(not importlib.util.find_spec("tensorboard"), reason="not installed")
def test_real_event_files_hold_the_file(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track(run, "tensorboard", "mads", follow=False)
    track(run, "tensorboard", "mads", follow=False)
    found = EventAccumulator(str(run / "tensorboard")).Reload()
    for step, values in expected(run).items():
        for name, value in values.items():
            (at,) = (one.value for one in found.Scalars(name) if one.step == step)
            assert at == pytest.approx(value, rel=1e-6)
