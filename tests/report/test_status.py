"""How a run stands agrees with its files, at every moment of its life."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import planted
import pytest
from command import mads
from report.silent import Silent

from mads.errors import Interrupted, UsageError
from mads.files import exclusive, is_held
from mads.layout import RunDir
from mads.report.status import status
from mads.run.loop import train
from mads.run.records import StepRecord
from mads.run.result import read_result
from mads.store.store import Store


class StopAt(Silent):
    """Stops a run after a step, as an error of the machine would."""

    def __init__(self, last: int) -> None:
        self.last = last

    def step(self, record: StepRecord) -> None:
        if record.step == self.last:
            raise Interrupted("enough")


def test_a_run_that_is_done(folder: Path) -> None:
    found = status(folder / "run")
    result = read_result(RunDir(folder / "run").result)
    assert result is not None
    assert (found.state, found.steps_done, found.steps) == ("done", 20, 20)
    assert (found.round, found.checkpoint) == (result.rounds - 1, 20)
    assert found.losses == result.losses
    assert found.losses_step == 20
    assert found.first_losses["planted"] > found.losses["planted"]
    assert found.guards == result.guards
    assert found.seconds_left is None


def test_one_that_was_stopped_and_one_at_work(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = planted.recipe(folder, steps=20)
    with pytest.raises(Interrupted):
        train(Store(folder / "store"), run, recipe, StopAt(13))
    found = status(run)
    assert (found.state, found.steps_done, found.checkpoint) == ("stopped", 14, 10)
    assert found.losses_step == 10
    assert found.loss is not None
    assert found.tokens_per_s is not None
    assert found.seconds_left == pytest.approx(6 * 512 / found.tokens_per_s)
    assert not is_held(run)
    before = sorted(path.name for path in run.iterdir())
    with exclusive(run):
        assert status(run).state == "running"
    assert sorted(path.name for path in run.iterdir()) == before


def test_one_that_has_only_begun_and_what_is_no_run(folder: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(folder / "run", tmp_path / "run"))
    for name in ("metrics.jsonl", "result.json", ".lock"):
        (run / name).unlink()
    shutil.rmtree(run / "checkpoints")
    found = status(run)
    assert (found.state, found.steps_done, found.checkpoint) == ("not begun", 0, 0)
    assert found.loss is found.tokens_per_s is found.seconds_left is None
    assert found.losses == {}
    with pytest.raises(UsageError, match="is a store, expected a run"):
        status(folder / "store")
    with pytest.raises(UsageError, match="does not exist"):
        status(tmp_path / "nothing")


def test_from_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = mads(capsys, "status", folder / "run")
    assert (code, out) == (0, "")
    assert "done, step 20 of 20 (round 3, latest checkpoint 20)" in err.replace("\n", " ")
    assert "step 0" in err
    code, out, _ = mads(capsys, "status", folder / "run", "--json")
    assert code == 0
    assert json.loads(out)["steps_done"] == 20
