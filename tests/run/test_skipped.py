"""Batches without a finite loss: skipped, counted, and the end of a run after too many in a row."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import planted
import pytest
from run.watching import Quiet, facts

from mads.config import Recipe
from mads.errors import DataError
from mads.files import read_sealed_json
from mads.layout import RunDir
from mads.report.status import status
from mads.run.loop import train
from mads.run.reader import Run
from mads.run.records import SkippedRecord, StepRecord
from mads.store.store import Store
from mads.training.checkpoint import latest_checkpoint
from mads.training.model import LanguageModel, TokenBatch
from mads.training.trainer import StepResult, Trainer

FILES = ("model.safetensors", "optimizer.safetensors")
Poison = Callable[[set[int]], None]


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Poison:
    """Return a function: in these steps the loss is NaN, through the trainer's own eyes."""
    bad: set[int] = set()
    step, losses = Trainer.step, LanguageModel.token_losses
    now = [-1]

    def poisoned(self: Trainer, number: int, batch: TokenBatch, groups: int = 0) -> StepResult:
        now[0] = number
        try:
            return step(self, number, batch, groups)
        finally:
            now[0] = -1

    def token_losses(self: LanguageModel, batch: TokenBatch) -> object:
        return losses(self, batch) * (math.nan if now[0] in bad else 1.0)

    monkeypatch.setattr(Trainer, "step", poisoned)
    monkeypatch.setattr(LanguageModel, "token_losses", token_losses)

    def set_bad(steps: set[int]) -> None:
        bad.clear()
        bad.update(steps)

    return set_bad


def recipe_of(folder: Path, limit: int = 3, steps: int = 15) -> Recipe:
    return planted.recipe(folder, steps=steps, checkpoint_every=2, max_bad_steps=limit)


def test_a_bad_batch_is_skipped_told_once_and_counted(
    folder: Path, store: Store, tmp_path: Path, poison: Poison
) -> None:
    poison({4, 5, 9})
    watcher = Quiet()
    result = train(store, tmp_path / "run", recipe_of(folder), watcher)
    assert [record.step for record in watcher.steps] == [0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14]
    (told,) = (note for note in watcher.notes if "skipped" in note)
    assert told.startswith("step 4: the loss is nan (gradient norm nan), so the batch is skipped")
    assert "after 3 in a row (training.max_bad_steps)" in told
    assert result.guards["skipped"] == 3
    assert read_sealed_json(tmp_path / "run" / "result.json", "")["guards"]["skipped"] == 3
    records = Run(tmp_path / "run").records
    skipped = [record for record in records if isinstance(record, SkippedRecord)]
    assert [(record.step, record.round) for record in skipped] == [(4, 0), (5, 1), (9, 1)]
    assert status(tmp_path / "run").guards["skipped"] == 3


def test_no_weight_changes_in_a_bad_step(
    folder: Path, store: Store, tmp_path: Path, poison: Poison
) -> None:
    poison({2})
    recipe = planted.recipe(folder, steps=4, checkpoint_every=1, keep_checkpoints=0)
    train(store, tmp_path / "run", recipe, Quiet())
    two, three, four = (
        [(tmp_path / "run" / "checkpoints" / f"step-{n:08d}" / name).read_bytes() for name in FILES]
        for n in (2, 3, 4)
    )
    assert two == three
    assert three[0] != four[0]


def test_too_many_in_a_row_stop_the_run_also_over_a_resume(
    folder: Path, store: Store, tmp_path: Path, poison: Poison
) -> None:
    """The checkpoint after step 5 has one bad step behind it, so two more are enough."""
    run = tmp_path / "run"
    poison({2, 3, 5, 6, 7})
    with pytest.raises(DataError, match=r"step 7: the loss is nan .* the 3 steps in a row that "):
        train(store, run, recipe_of(folder), Quiet())
    saved = latest_checkpoint(RunDir(run))
    assert saved is not None
    assert saved.step == 6
    again = Quiet()
    with pytest.raises(DataError, match=r"step 7: .*max_bad_steps.*as it was.*learning_rate"):
        train(store, run, recipe_of(folder), again)
    assert again.steps == []


def test_a_resumed_run_skips_as_one_that_was_never_stopped(
    folder: Path, store: Store, tmp_path: Path, poison: Poison
) -> None:
    class Stopped(BaseException):
        """As sudden as SIGKILL."""

    class Killed(Quiet):
        def step(self, record: StepRecord) -> None:
            if record.step == 7:
                raise Stopped

    poison({4, 5, 6, 8})
    recipe = recipe_of(folder, 4)
    train(store, tmp_path / "whole", recipe, Quiet())
    with pytest.raises(Stopped):
        train(store, tmp_path / "run", recipe, Killed())
    watcher = Quiet()
    train(store, tmp_path / "run", recipe, watcher)
    assert watcher.steps[0].step == 7  # after step 6, which was skipped a second time
    assert facts(tmp_path / "run") == facts(tmp_path / "whole")
