"""Runs side by side: what is said of one that fails without words, and of a stop before the end."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from mads.errors import Interrupted
from mads.experiments import jobs
from mads.experiments.jobs import TrainJob, train_all
from mads.layout import RunDir


def job(root: Path, name: str) -> TrainJob:
    log = root / f"{name}.log"
    return TrainJob(name, root / "recipe.toml", 0, RunDir(root / name), log, 10)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a shell script that stands for Python; its ``$run`` is the run's folder."""
    path = tmp_path / "script"
    monkeypatch.setattr(sys, "executable", str(path))
    return path


def write(script: Path, text: str) -> None:
    script.write_text(f'#!/bin/sh\nrun="${{10}}"\n{text}\n')
    script.chmod(0o755)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("echo 'mads: a: 2 problems:' >&2; echo '  - b' >&2; exit 1", "a: 2 problems:\n  - b (all"),
        ("echo Traceback >&2; echo 'ValueError: x' >&2; exit 1", "ValueError: x (all of it: "),
        ("exit 3", "exit code 3, without a word (all of it: "),
        ("echo 'loading' >&2; kill -9 $$", "killed by signal 9 (all of it: "),
    ],
)
def test_the_last_message_of_a_run_that_fails(
    tmp_path: Path, script: Path, words: str, said: str
) -> None:
    (tmp_path / "a.log").write_text("mads: something of an earlier attempt\n")
    write(script, words)
    failed = train_all([job(tmp_path, "a")], tmp_path / "store", 1, 1, lambda *_: None)
    assert failed["a"].startswith(said)
    assert "earlier" not in failed["a"]


def test_each_is_told_its_folder_seed_generation_and_share_of_the_cores(
    tmp_path: Path, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 9)
    write(script, 'echo "$@ $OMP_NUM_THREADS" >&2')
    seen: list[tuple[str, int, int]] = []
    made = [job(tmp_path, name) for name in "abc"]
    assert train_all(made, tmp_path / "store", 4, 2, lambda *what: seen.append(what)) == {}
    assert ("c", 10, 10) in seen
    expected = (
        f"-m mads train --json --store {tmp_path}/store --generation 4 --out {tmp_path}/a "
        f"--recipe {tmp_path}/recipe.toml --set seed=0 4"
    )
    assert (tmp_path / "a.log").read_text().strip() == expected


def test_a_signal_is_passed_on_and_nothing_more_is_started(tmp_path: Path, script: Path) -> None:
    write(script, 'trap "echo saved >&2; exit 75" TERM; touch "$run"; while :; do sleep 0.02; done')

    def report(name: str, done: int, total: int) -> None:
        if (tmp_path / "a").exists():
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match=r"stopped by signal 15; 0 of 2 runs have ended"):
        train_all([job(tmp_path, "a"), job(tmp_path, "b")], tmp_path / "store", 1, 1, report)
    assert (tmp_path / "a.log").read_text() == "saved\n"
    assert not (tmp_path / "b.log").exists()


def test_an_error_here_ends_what_runs(tmp_path: Path, script: Path) -> None:
    write(script, 'touch "$run"; exec sleep 600')

    def report(name: str, done: int, total: int) -> None:
        if (tmp_path / "a").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_all([job(tmp_path, "a")], tmp_path / "store", 1, 1, report)


def test_nothing_to_do(tmp_path: Path) -> None:
    assert jobs.train_all([], tmp_path, 1, 2, lambda *_: None) == {}
