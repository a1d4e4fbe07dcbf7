"""``mads train`` through the command line, in this process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import planted
import pytest
from command import mads, mads_process

from mads.recipe import to_table, to_toml
from mads.training.model import TokenBatch
from mads.training.trainer import StepResult, Trainer


@pytest.fixture
def arguments(folder: Path, tmp_path: Path) -> tuple[object, ...]:
    """A run of ten steps, two rounds and checkpoints after 5 and 10."""
    recipe = planted.recipe(folder, steps=10, checkpoint_every=5)
    (tmp_path / "recipe.toml").write_text(to_toml(to_table(recipe)))
    options = ("--store", folder / "store", "--out", tmp_path / "run")
    return ("train", *options, "--recipe", tmp_path / "recipe.toml")


def test_a_new_run_and_the_same_call_again(
    capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], tmp_path: Path
) -> None:
    code, out, err = mads(capsys, *arguments)
    assert (code, out) == (0, "")
    for expected in ("round  0 step      0", "round  1 step      5", "end", "10 steps, 5,120 tok"):
        assert expected in err
    assert "kind: θ =" in err
    assert (tmp_path / "run" / "result.json").is_file()
    code, _, err = mads(capsys, *arguments)
    assert code == 0
    assert "going on from step 10 (round 1)" in err
    assert "round  0" not in err


def test_the_result_as_json_has_what_people_ask_for(
    capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], tmp_path: Path
) -> None:
    """And not what the rule remembers, which is as large as all categories squared."""
    code, out, _ = mads(capsys, *arguments, "--json")
    assert code == 0
    found = json.loads(out)
    assert found.keys() == {
        *("run", "steps", "rounds", "tokens", "losses", "guards", "strategy", "theta", "weights"),
        *("ledger", "seconds"),
    }
    assert (found["steps"], found["rounds"], found["strategy"]) == (10, 2, "console")
    assert found["run"] == str(tmp_path / "run")


def test_a_signal_stops_with_the_work_saved(
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[object, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = Trainer.step

    def interrupted(trainer: Trainer, number: int, batch: TokenBatch, groups: int) -> StepResult:
        if number == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(trainer, number, batch, groups)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        code, out, err = mads(capsys, *arguments, "--json")
    assert (code, out) == (75, "")
    assert f"mads: stopped by signal {int(signal.SIGTERM)} after step 7; the work is saved" in err
    code, _, err = mads(capsys, *arguments)
    assert code == 0
    assert "going on from step 7 (round 1)" in err


def test_a_bad_recipe_is_told_at_once(
    capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], tmp_path: Path
) -> None:
    code, out, err = mads(capsys, *arguments, "--set", "training.stepps=5", "--set", "seed=x")
    assert (code, out) == (2, "")
    assert "2 problem(s) in the recipe" in err
    assert "did you mean 'steps'?" in err
    assert not (tmp_path / "run").exists()


def test_another_recipe_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...]
) -> None:
    assert mads(capsys, *arguments)[0] == 0
    code, _, err = mads(capsys, *arguments, "--set", "seed=5")
    assert code == 2
    assert "begun with another recipe: seed: 0 -> 5" in err


def test_the_policy_random_measures_nothing(
    capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], tmp_path: Path
) -> None:
    """Selecting by such a run, and explaining it, need no weights."""
    code, out, _ = mads(capsys, *arguments, "--set", 'selection.policy="random"', "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["strategy"], found["theta"], found["weights"]) == ("random", {}, {})
    assert not list((tmp_path / "run").rglob("rewards.parquet"))
    store, run = str(arguments[2]), ("--run", tmp_path / "run")
    picked = ("--tokens", "1K", "--out", tmp_path / "picked")
    code, _, err = mads(capsys, "select", "--store", store, *run, *picked)
    assert code == 0, err
    code, _, err = mads(capsys, "explain", store, "0", *run)
    assert code == 0, err
    assert "–" in err
    code, _, err = mads(
        capsys, "what-if", "--store", store, *run, "--tokens", "1K", "--theta", "a=1"
    )
    assert code == 2
    assert "the strategy 'random' has no θ" in err


def test_a_generation_is_the_stores(
    capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], tmp_path: Path
) -> None:
    code, out, err = mads(capsys, *arguments, "--generation", "7")
    assert (code, out) == (1, "")
    assert "has no generation 7, found 1" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("rewards.tasks.planted.path=/none.jsonl", "/none.jsonl does not exist"),
        ("console.prior.kindd.useful=3", "no such agent; did you mean 'kind'?"),
        ("selection.min_share.kind.usefull=0.5", "did you mean 'useful'?"),
        ("rewards.tasks={}", "the recipe has no reference task"),
    ],
)
def test_what_is_wrong_is_told_before_torch_is_loaded(
    arguments: tuple[object, ...], setting: str, message: str, tmp_path: Path
) -> None:
    done = mads_process(*arguments, "--set", setting)
    assert done.returncode == 2
    assert message in done.stderr.replace("\n", " ")
    assert "loading torch" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_early_look_does_not_import_torch() -> None:
    script = "import sys, mads.run.ready; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
