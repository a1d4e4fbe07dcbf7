"""`mads train` in several processes: the same decisions, and one word when something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import planted
import pyarrow.parquet as pq
import pytest
import ranks

from mads.layout import RunDir
from mads.recipe import to_table, to_toml

STEPS = 20


@pytest.fixture(scope="module")
def recipe(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("many") / "recipe.toml"
    path.write_text(to_toml(to_table(planted.recipe(folder, steps=STEPS))))
    return path


def train(size: int, folder: Path, recipe: Path, out: Path, *more: str) -> list[ranks.Ended]:
    return ranks.ended(started(size, folder, recipe, out, *more))


def started(
    size: int, folder: Path, recipe: Path, out: Path, *more: str
) -> list[subprocess.Popen[str]]:
    command = ["-m", "mads", "train", "--store", folder / "store", "--recipe", recipe]
    return ranks.start(size, *command, "--out", out, *more)


@pytest.fixture(scope="module")
def two(folder: Path, recipe: Path) -> Path:
    """A run of two processes, with a checkpoint in the middle."""
    out = recipe.parent / "two"
    found = train(2, folder, recipe, out)
    assert [one.code for one in found] == [0, 0], found
    assert found[1].out == found[1].err == ""  # the main process alone talks
    return out


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same(found: Path, expected: Path) -> None:
    """Assert that two runs have made the same decisions, with losses equal to 1e-5."""
    for path in sorted(expected.glob("rounds/*/selection.parquet")):
        ours = pq.read_table(found / path.relative_to(expected))
        theirs = pq.read_table(path)
        assert ours.drop_columns("score").equals(theirs.drop_columns("score")), path
        assert np.allclose(ours["score"], theirs["score"], rtol=1e-3)
    for ours, theirs in zip(records(found), records(expected), strict=True):
        assert ours["kind"] == theirs["kind"]
        for name, loss in theirs.get("losses", {}).items():
            assert ours["losses"][name] == pytest.approx(loss, rel=1e-5)
        for agent, weights in theirs.get("weights", {}).items():
            assert ours["weights"][agent] == pytest.approx(weights, rel=2e-3)
        if theirs["kind"] == "step":
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


def test_two_processes_decide_as_one(two: Path, finished: Path) -> None:
    assert_same(two, finished)


@pytest.mark.parametrize("size", [1, 4])
def test_what_two_have_saved_goes_on_with_fewer_and_more(
    size: int, two: Path, folder: Path, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(two, out)
    RunDir(out).latest.write_text("step-00000010\n")
    found = train(size, folder, recipe, out)
    assert [one.code for one in found] == [0] * size, found
    assert "going on from step 10" in found[0].err
    assert_same(out, two)


def test_what_is_wrong_with_the_recipe_is_told_once(
    folder: Path, recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    wrong = "--set", f"model.hf={tmp_path / 'model'}"  # found by every process
    found = train(2, folder, recipe, tmp_path / "run", *wrong)
    assert f"model.hf: '{tmp_path / 'model'}' cannot be loaded" in found[0].err
    assert found[0].code == 2
    assert found[1].err == ""
    assert found[1].code != 0


def test_a_stopped_process_stops_all_and_the_work_is_saved(
    two: Path, folder: Path, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    more = "--set", "training.steps=4000", "--set", "training.checkpoint_every=4000"
    running = started(2, folder, recipe, out, *more)
    ranks.wait_for(out / "rounds" / "0001" / "plan.json")
    running[1].send_signal(signal.SIGTERM)
    found = ranks.ended(running)
    assert [one.code for one in found] == [75, 75], found
    assert "stopped by a signal to another process after step" in found[0].err
    assert found[1].err == ""
    assert RunDir(out).latest.is_file()


def test_a_killed_process_ends_the_others_with_one_message(
    two: Path, folder: Path, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    more = "--set", "training.steps=4000"
    running = started(2, folder, recipe, out, *more)
    ranks.wait_for(RunDir(out).latest)
    running[1].kill()
    found = ranks.ended(running)
    assert (found[0].code, found[1].code) == (1, -signal.SIGKILL)
    assert found[0].err.count("mads: ") == 1
    assert "mads: another process of this run has ended, or cannot be reached." in found[0].err
    assert "Traceback" not in found[0].err
    goes_on = started(1, folder, recipe, out, *more)  # the checkpoint is whole
    assert goes_on[0].stderr is not None
    assert any("going on from step" in line for line in goes_on[0].stderr)
    goes_on[0].kill()
    ranks.ended(goes_on)


def test_torchrun_starts_them(folder: Path, recipe: Path, two: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "mads", "train"]
    options = ["--store", str(folder / "store"), "--recipe", str(recipe), "--out", str(out)]
    names = ("RANK", "WORLD_SIZE")
    env = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, *run, *options],
        env={**env, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert_same(out, two)


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("one", "2"), ("-1", "2"), ("0", "0")])
def test_a_place_that_cannot_be_is_refused(
    rank: str, size: str, folder: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mads.errors import UsageError
    from mads.processes import place_of

    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(UsageError, match=f"found '{rank}' and '{size}', expected a rank below"):
        place_of()
