"""``mads compare`` through the command line: runs are processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import planted
import pytest
from command import mads
from run.watching import Quiet, facts

from mads.errors import DataError, UsageError
from mads.experiments.arms import read_arms
from mads.experiments.comparison import comparison_folder, open_for_comparison, read_saved_arms
from mads.files import exclusive
from mads.layout import ComparisonDir
from mads.recipe import to_table, to_toml
from mads.report.compare import read_comparison
from mads.run.loop import train
from mads.run.records import Metrics
from mads.store.store import Store

TWO = """base = "recipe.toml"
baseline = "natural"
[arms.natural]
set = ["selection.policy=random"]
[arms.matched]
set = ["strategy=fixed", "console.prior.kind.useful=3.0"]
"""
THIRD = '[arms.third]\nset = ["selection.policy=top", "strategy=random"]\n'


def write_arms(place: Path, world: Path, steps: int, text: str = TWO) -> Path:
    """Write ARMS.toml and its base recipe into a folder."""
    recipe = planted.recipe(world, steps=steps, update_every=steps // 4, checkpoint_every=steps)
    place.mkdir(exist_ok=True)
    (place / "recipe.toml").write_text(to_toml(to_table(recipe)))
    (place / "ARMS.toml").write_text(text)
    return place / "ARMS.toml"


@pytest.fixture(scope="session")
def compared(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ARMS.toml and ``out``: two arms, two seeds, runs trained in this process."""
    place = tmp_path_factory.mktemp("compared")
    arms = read_arms(write_arms(place, folder, 8))
    store = Store(folder / "store")
    with comparison_folder(place / "out", store, arms) as out:
        for arm in arms.recipes:
            for seed in range(2):
                train(store, out.run(arm, seed).root, arms.recipe(arm, seed), Quiet())
    return place


@pytest.fixture
def copy(compared: Path, tmp_path: Path) -> Path:
    """One that a test may change."""
    return Path(shutil.copytree(compared, tmp_path / "compared"))


def call(folder: Path, place: Path, *more: object) -> tuple[object, ...]:
    options = ("--store", folder / "store", "--out", place / "out", "--seeds", "2")
    return ("compare", place / "ARMS.toml", *options, *more)


def times(out: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in out.rglob("metrics.jsonl")}


def test_an_arm_and_a_seed_are_added_and_only_they_are_trained(
    capsys: pytest.CaptureFixture[str], folder: Path, copy: Path
) -> None:
    before = times(copy / "out")
    (copy / "ARMS.toml").write_text(TWO + THIRD)
    code, out, err = mads(capsys, *call(folder, copy), "--seeds", "1", "--jobs", "2")
    assert (code, out) == (0, ""), err
    assert "third, seed 0: 8 of 8" in err
    assert "matched, seed" not in err
    for expected in ("− natural", "kind: share of the tokens read", "4,096 tokens a run", " – "):
        assert expected in err
    after = times(copy / "out")
    assert after.keys() - before.keys() == {str(copy / "out/third/seed-0/metrics.jsonl")}
    assert {path: after[path] for path in before} == before
    found = read_comparison(copy / "out" / "comparison.json")
    assert (list(found.arms), found.seeds) == (["natural", "matched", "third"], (0,))
    (copy / "ARMS.toml").write_text(TWO)
    code, _, err = mads(capsys, *call(folder, copy))
    assert code == 2
    assert "holds a comparison of other arms:\n  - arm 'third' is missing now\nArms may be" in err


def test_two_seeds_as_json(capsys: pytest.CaptureFixture[str], folder: Path, copy: Path) -> None:
    """Nothing is missing, so nothing is trained."""
    code, out, err = mads(capsys, *call(folder, copy, "--json"))
    assert (code, err) == (0, "")
    found = json.loads(out)
    saved = json.loads((copy / "out" / "comparison.json").read_text())
    saved.pop("sha256")
    assert found == saved
    assert found["seeds"] == [0, 1]
    difference = found["arms"]["matched"]["mean_differences"]["references"]
    assert difference["low"] < difference["mean"] < difference["high"]


def test_a_changed_arm_is_refused_by_name(
    capsys: pytest.CaptureFixture[str], folder: Path, copy: Path
) -> None:
    (copy / "ARMS.toml").write_text(TWO.replace("3.0", "2.0"))
    before = (copy / "out" / "arms.toml").read_bytes()
    code, out, err = mads(capsys, *call(folder, copy))
    assert (code, out) == (2, "")
    assert "arm 'matched' was changed: console.prior.kind.useful: 3.0 -> 2.0" in err
    assert "put them back, give a changed one another name" in err
    assert (copy / "out" / "arms.toml").read_bytes() == before


def test_a_run_that_fails_is_named_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str], folder: Path, copy: Path
) -> None:
    for arm in ("natural", "matched"):
        (copy / "out" / arm / "seed-1" / "result.json").unlink()
    (copy / "out" / "natural" / "seed-1" / "metrics.jsonl").write_text("nothing")
    code, out, err = mads(capsys, *call(folder, copy))
    assert (code, out) == (1, "")
    assert "1 of 2 runs failed, the others have ended:\n  - natural, seed 1: " in err
    assert "metrics.jsonl was changed: the sha256 of its first" in err
    assert "natural/seed-1.log)" in err
    assert (copy / "out" / "matched" / "seed-1" / "result.json").is_file()
    assert not (copy / "out" / "comparison.json").exists()


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda place: (place / "mine.txt").write_text("x"), "neither empty nor a comparison: it "),
        (lambda place: (place / "arms.toml").write_text("x ="), r"arms\.toml cannot be read"),
        (lambda place: (place / "arms.toml").write_text("x = 1"), "is not the arms of a comparis"),
    ],
)
def test_a_folder_of_something_else_is_refused(
    folder: Path, copy: Path, prepare: Callable[[Path], object], said: str
) -> None:
    place = copy / "other"
    place.mkdir()
    prepare(place)
    store, arms = Store(folder / "store"), read_arms(copy / "ARMS.toml")
    with (
        pytest.raises((UsageError, DataError), match=said),
        comparison_folder(place, store, arms),
    ):
        pass


def test_a_store_or_a_run_and_places_in_them_are_refused(folder: Path, finished: Path) -> None:
    store = folder / "store"
    with pytest.raises(UsageError, match=r"store is a store\. Give another --out"):
        open_for_comparison(store, store)
    with pytest.raises(UsageError, match=r"finished is a run\. Give another --out"):
        open_for_comparison(store, finished)
    with pytest.raises(UsageError, match=r"lies in .*finished, which is a run"):
        open_for_comparison(store, finished / "inside")


def test_another_store_and_another_process_are_refused(folder: Path, copy: Path) -> None:
    store, arms = Store(folder / "store"), read_arms(copy / "ARMS.toml")
    with (
        exclusive(copy / "out"),
        pytest.raises(DataError, match="being written by another mads process"),
        comparison_folder(copy / "out", store, arms),
    ):
        pass
    saved = (copy / "out" / "arms.toml").read_text()
    other = saved.replace(store.fingerprint, "0" * 64)
    (copy / "out" / "arms.toml").write_text(other)
    with (
        pytest.raises(DataError, match=r"on another store: found 0000000000000000 \(generation 1"),
        comparison_folder(copy / "out", store, arms),
    ):
        pass


def test_the_generation_is_the_one_that_it_was_begun_with(folder: Path, copy: Path) -> None:
    saved = read_saved_arms(ComparisonDir(copy / "out"))
    assert saved is not None
    assert saved.generation == open_for_comparison(folder / "store", copy / "out").generation == 1
    path = copy / "out" / "arms.toml"
    path.write_text(path.read_text().replace("generation = 1", "generation = 2"))
    with pytest.raises(DataError, match="has no generation 2, found 1"):
        open_for_comparison(folder / "store", copy / "out")


def until(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until something is so; the process must not end before."""
    while not what():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def started(arguments: tuple[object, ...]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mads", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def test_stopped_and_killed_half_way_it_goes_on_with_the_same_command(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    """First a signal, after which the runs have saved; then a kill of the parent alone."""
    place = tmp_path / "place"
    arms = read_arms(write_arms(place, folder, 400))
    out = ComparisonDir(place / "out")
    runs = [out.run(arm, 0) for arm in arms.recipes]
    command = call(folder, place, "--seeds", "1", "--jobs", "2")
    process = started(command)
    until(lambda: all(Metrics(run.metrics).steps_done() > 3 for run in runs), process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 75, err
    assert f"stopped by signal {int(signal.SIGTERM)}; 0 of 2 runs have ended, the work of" in err
    saved = [int(run.latest.read_text().strip().removeprefix("step-")) for run in runs]
    assert all(3 < step < 400 for step in saved)

    process = started(command)
    until(lambda: Metrics(runs[0].metrics).steps_done() > saved[0] + 3, process)
    process.kill()
    process.wait()
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()
    assert not runs[0].result.exists()

    code, _, err = mads(capsys, *command)
    assert code == 0, err
    words = out.log("natural", 0).read_text()
    assert words.count(f"going on from step {saved[0]}") == 2
    store = Store(folder / "store")
    for arm, run in zip(arms.recipes, runs, strict=True):
        whole = place / f"whole-{arm}"
        train(store, whole, arms.recipe(arm, 0), Quiet())
        assert facts(run.root) == facts(whole)
    assert os.path.lexists(out.comparison)
