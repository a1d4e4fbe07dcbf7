"""A run that is extended is the run that had the larger number of steps from the start."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import planted
import pytest
from run.watching import Quiet, facts

from mads.config import Recipe
from mads.errors import Interrupted, UsageError
from mads.files import write_text
from mads.layout import RunDir
from mads.run.folder import read_provenance
from mads.run.loop import train
from mads.run.reader import Run
from mads.run.schedule import open_end
from mads.store.store import Store


def recipe_of(folder: Path, steps: int, schedule: str, **training: Any) -> Recipe:
    """Rounds of 5 steps, checkpoints every 4, of which the newest is kept."""
    values: dict[str, Any] = {"checkpoint_every": 4, "keep_checkpoints": 1, "warmup": 2}
    return planted.recipe(folder, steps=steps, schedule=schedule, **values | training)


@pytest.mark.parametrize(
    ("schedule", "steps", "cooldown", "expected"),
    [
        ("constant", 10, 0, 10),  # a whole round
        ("constant", 12, 0, 10),  # the round of steps 10 to 14 is cut short
        ("constant", 4, 0, 0),  # so is the first one
        ("wsd", 20, 0, 16),  # a fifth is the decay
        ("wsd", 20, 7, 13),
        ("wsd", 18, 2, 15),
        ("wsd", 20, 30, 0),
        ("cosine", 20, 0, 0),
    ],
)
def test_how_far_a_run_is_also_a_longer_one(
    folder: Path, schedule: str, steps: int, cooldown: int, expected: int
) -> None:
    assert open_end(recipe_of(folder, steps, schedule, cooldown=cooldown)) == expected


@pytest.mark.parametrize(
    ("schedule", "steps", "first"),
    [("constant", 10, 10), ("constant", 13, 10), ("wsd", 15, 12), ("wsd", 12, 10)],
)
def test_an_extended_run_is_the_longer_one(
    folder: Path, store: Store, tmp_path: Path, schedule: str, steps: int, first: int
) -> None:
    """Bit for bit: metrics, rounds and the last checkpoint."""
    train(store, tmp_path / "long", recipe_of(folder, 20, schedule), Quiet())
    run = tmp_path / "run"
    train(store, run, recipe_of(folder, steps, schedule), Quiet())
    last = (run / "checkpoints" / f"step-{steps:08d}" / "model.safetensors").read_bytes()
    watcher = Quiet()
    result = train(store, run, recipe_of(folder, 20, schedule), watcher)
    assert watcher.notes[0].startswith(f"the run is extended from {steps} to 20 steps.")
    assert watcher.steps[0].step == first
    assert result.steps == 20
    assert facts(run) == facts(tmp_path / "long")
    assert Run(run).recipe == Run(tmp_path / "long").recipe
    ended = RunDir(run).ended(steps)
    assert ended.is_dir() == (first < steps)
    if first < steps:
        assert f"The model of step {steps} is kept in {ended}" in watcher.notes[0]
        assert (ended / "model.safetensors").read_bytes() == last
    again = Quiet()
    train(store, run, recipe_of(folder, 20, schedule), again)
    assert again.steps == []
    with pytest.raises(UsageError, match=rf"another recipe: training\.steps: 20 -> {steps}"):
        train(store, run, recipe_of(folder, steps, schedule), Quiet())


def test_a_run_that_was_stopped_is_extended_too(folder: Path, store: Store, tmp_path: Path) -> None:
    train(store, tmp_path / "long", recipe_of(folder, 20, "wsd"), Quiet())
    for stop, first in ((7, 7), (14, 12)):  # the decay of 15 steps begins after step 12
        run = tmp_path / f"run-{stop}"
        with pytest.raises(Interrupted):
            train(store, run, recipe_of(folder, 15, "wsd"), Quiet(stop_after=stop))
        watcher = Quiet()
        train(store, run, recipe_of(folder, 20, "wsd"), watcher)
        assert watcher.steps[0].step == first
        assert facts(run) == facts(tmp_path / "long")


def test_cosine_cannot_be_extended(folder: Path, store: Store, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(store, run, recipe_of(folder, 5, "cosine"), Quiet())
    with pytest.raises(
        UsageError, match=r'from 5 to 20 steps: under training.schedule = "cosine" .* every step'
    ):
        train(store, run, recipe_of(folder, 20, "cosine"), Quiet())


@pytest.fixture(scope="module")
def ended(folder: Path, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run under wsd of 15 steps, with checkpoints after 12 and 15."""
    run = tmp_path_factory.mktemp("ended") / "run"
    train(store, run, recipe_of(folder, 15, "wsd"), Quiet())
    assert RunDir(run).checkpoints == [12, 15]
    return run


def test_without_a_checkpoint_before_the_decay(
    folder: Path, store: Store, ended: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(ended, tmp_path / "run"))
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    with pytest.raises(UsageError, match=r"also the longer run's is 12 .* of step 15 only\. Give"):
        train(store, run, recipe_of(folder, 20, "wsd"), Quiet())
    both = recipe_of(folder, 20, "wsd")
    both = replace(both, training=replace(both.training, learning_rate=1e-4))
    with pytest.raises(UsageError, match=r"another recipe: training\.steps: 15 -> 20; training\.l"):
        train(store, ended, both, Quiet())


@pytest.mark.parametrize("at", ["_write_provenance", "write_text"])
def test_killed_while_it_is_extended(
    folder: Path,
    store: Store,
    ended: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: str,
) -> None:
    """Before and after the provenance is written: both recipes may go on, and nothing is lost."""
    run, count = Path(shutil.copytree(ended, tmp_path / "run")), [0]

    def killed(*arguments: object, **_: object) -> None:
        if at == "write_text" and arguments[0] != RunDir(run).recipe:
            write_text(*arguments)  # type: ignore[arg-type]
            return
        count[0] += 1
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"mads.run.folder.{at}", killed)
        with pytest.raises(KeyboardInterrupt):
            train(store, run, recipe_of(folder, 20, "wsd"), Quiet())
    assert count == [1]
    assert Run(run).recipe.training.steps == 15
    shorter = Path(shutil.copytree(run, tmp_path / "shorter"))
    train(store, shorter, recipe_of(folder, 15, "wsd"), Quiet())
    assert facts(shorter) == facts(ended)
    train(store, tmp_path / "long", recipe_of(folder, 20, "wsd"), Quiet())
    train(store, run, recipe_of(folder, 20, "wsd"), Quiet())
    assert facts(run) == facts(tmp_path / "long")
    assert read_provenance(RunDir(run)).recipe_before
