"""What a run has cost, by hand, and that it adds up over calls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import planted
import pytest
from run.watching import Quiet

from mads.config import TrainingConfig
from mads.errors import Interrupted
from mads.layout import RunDir
from mads.run.ledger import Ledger, Spent, ledger_of, shape_of
from mads.run.loop import train
from mads.run.reader import Run
from mads.run.records import (
    Effort,
    EndRecord,
    FeedbackRecord,
    Record,
    RefreshRecord,
    RoundRecord,
    SkippedRecord,
    StepRecord,
)
from mads.run.result import read_result
from mads.store.store import Store
from mads.training.build import build_model

FEEDBACK = FeedbackRecord(3.0, 8, 200, "", {})
RECORDS: list[Record] = [
    RoundRecord(0, 0, 500.0, 30, {}, {}, {}, effort=Effort(1.0, 10.0, 0.0, 6.0, 0)),
    StepRecord(0, 0, 2.5, 1e-3, 100, 50.0, 1.0),
    SkippedRecord(1, 0, "the loss is nan", 100, 25.0),
    RoundRecord(
        *(1, 2, 1500.0, 30, {}, {}, {}, FEEDBACK),
        refresh=RefreshRecord(7.0, (0,), 5, 5, None, 9),
        effort=Effort(2.0, 20.0, 99.0, 6.0, 2),  # goes on on two GPUs
    ),
    StepRecord(2, 1, 2.5, 1e-3, 100, 100.0, 1.0),
    EndRecord(3, {}, Effort(4.0, 40.0, 0.0, 6.0, 2)),
]


def test_every_stage_by_hand() -> None:
    assert ledger_of(RECORDS) == Ledger(
        annotate=Spent(7.0),
        select=Spent(2.0),
        rewards=Spent(3.0, 99.0, 6.0),
        training=Spent(2.0 + 4.0 + 1.0, 6.0 * 300, 2.0),
        evaluation=Spent(7.0, 70.0, 12.0),
    )


def test_what_an_older_record_does_not_say_is_not_guessed() -> None:
    first = RECORDS[0]
    assert isinstance(first, RoundRecord)
    found = ledger_of([replace(first, effort=None), *RECORDS[1:]])
    assert found.training == Spent(7.0)
    assert found.rewards == Spent(3.0, 99.0, 6.0)
    assert ledger_of([]).training == Spent(0.0, 0.0, 0.0)


def test_the_shape_of_a_model(folder: Path) -> None:
    lm = build_model(planted.recipe(folder).model, TrainingConfig(), 300, 0)
    shape = shape_of(lm)
    assert (shape.layers, shape.width) == (1, 32)
    assert shape.parameters == sum(p.numel() for p in lm.model.parameters())


def test_a_run_that_was_stopped_has_the_ledger_of_one_that_was_not(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    recipe = planted.recipe(folder, steps=12)
    train(store, tmp_path / "whole", recipe, Quiet())
    with pytest.raises(Interrupted):
        train(store, tmp_path / "run", recipe, Quiet(stop_after=7))
    train(store, tmp_path / "run", recipe, Quiet())
    found = []
    for name in ("whole", "run"):
        result = read_result(RunDir(tmp_path / name).result)
        assert result is not None
        assert result.ledger is not None
        known = replace(result.ledger, annotate=Spent(0.0))  # which the store alone tells
        assert known == ledger_of(Run(tmp_path / name).records)
        found.append(result.ledger)
    for stage in ("rewards", "training", "evaluation"):
        one, two = getattr(found[0], stage), getattr(found[1], stage)
        assert one.flops == two.flops > 0
        assert one.gpu_seconds == two.gpu_seconds == 0
        assert min(one.seconds, two.seconds) > 0
    assert found[0].select.seconds > 0
    shape = shape_of(build_model(recipe.model, recipe.training, 300, 0))
    assert found[0].training.flops == 12 * 512 * (
        6 * shape.parameters + 12 * shape.layers * shape.width * 32
    )
