"""A full disk and a store that vanishes in the middle: one clear error, last checkpoint intact."""

from __future__ import annotations

import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import planted
import pytest
from run.watching import Quiet, facts

from mads.errors import MadsError
from mads.layout import RunDir
from mads.run.loop import train
from mads.run.records import StepRecord
from mads.store.store import Store
from mads.training.checkpoint import latest_checkpoint


class At(Quiet):
    """Does something after a step."""

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        super().__init__()
        self._at, self._act = step, act

    def step(self, record: StepRecord) -> None:
        super().step(record)
        if record.step == self._at:
            self._act()


@pytest.fixture
def limit() -> Iterator[Callable[[int], None]]:
    """Return a function: no file may become longer, which stands for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("what", ["metrics.jsonl", "step-00000020"])
def test_a_full_disk_is_one_error_and_the_run_goes_on_later(
    folder: Path,
    store: Store,
    finished: Path,
    tmp_path: Path,
    limit: Callable[[int], None],
    what: str,
) -> None:
    run, recipe = tmp_path / "run", planted.recipe(folder, steps=20)

    def fill() -> None:
        size = (run / "metrics.jsonl").stat().st_size
        limit(size + 100 if what == "metrics.jsonl" else 30_000)

    step = 12 if what == "metrics.jsonl" else 18
    with pytest.raises((MadsError, OSError)) as caught:
        train(store, run, recipe, At(step, fill))
    limit(resource.RLIM_INFINITY)
    words = f"{getattr(caught.value, 'filename', None) or ''} {caught.value}"
    assert what in words
    assert "File too large" in words
    saved = latest_checkpoint(RunDir(run))
    assert saved is not None
    assert saved.step == 10
    assert not list((run / "checkpoints").glob("*.partial"))
    watcher = Quiet()
    train(store, run, recipe, watcher)
    assert watcher.steps[0].step == 10
    assert facts(run) == facts(finished)


def test_a_store_that_vanishes_is_one_error_and_the_run_goes_on_later(
    folder: Path, finished: Path, tmp_path: Path
) -> None:
    """Named when it is needed next; back in its place, nothing is lost."""
    place, away = tmp_path / "store", tmp_path / "away"
    shutil.copytree(folder / "store", place)
    run, recipe = tmp_path / "run", planted.recipe(folder, steps=20)
    with pytest.raises((MadsError, OSError)) as caught:
        train(Store(place), run, recipe, At(12, lambda: place.rename(away)))
    words = f"{getattr(caught.value, 'filename', None) or ''} {caught.value}"
    assert str(place) in words
    saved = latest_checkpoint(RunDir(run))
    assert saved is not None
    assert saved.step == 10
    away.rename(place)
    train(Store(place), run, recipe, Quiet())
    assert facts(run) == facts(finished)
