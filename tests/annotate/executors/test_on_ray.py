"""Ray: a worker that is killed in the middle of a span changes nothing."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from annotate.test_annotate import SHARDS, content, run
from command import mads
from toys import MakeRecipe

from mads.layout import StoreDir
from mads.recipe import to_table, to_toml


def test_without_ray_it_is_said_how_to_get_it(
    toy_corpus: Path,
    toy_recipe: MakeRecipe,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(to_table(toy_recipe())))
    call = ("annotate", toy_corpus, "--out", tmp_path / "store", "--recipe", path)
    code, _, words = mads(capsys, *call, "--executor", "ray")
    assert code == 2
    assert "Ray is not installed: pip install 'mads[ray]', or take 'processes'." in words


def ray_workers() -> list[int]:
    """Return this process's Ray tasks that are at work on a span."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (path / "cmdline").read_bytes()
            if b"ray::" in words and b"_run" in words and os.getsid(int(path.name)) == os.getsid(0):
                found.append(int(path.name))
    return found


def test_a_worker_that_is_killed_within_a_span_changes_nothing(
    toy_corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    run([toy_corpus], tmp_path / "whole", toy_recipe(corpus={"workers": 1, **SHARDS}))
    out, killed, over = tmp_path / "store", list[int](), threading.Event()

    def kill() -> None:
        while not (killed or over.is_set()):
            if len(list(StoreDir(out).root.glob("documents/*.parquet"))) >= 3:
                for pid in ray_workers()[:1]:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            time.sleep(0.001)

    killer = threading.Thread(target=kill)
    killer.start()
    recipe = toy_recipe(corpus={"workers": 2, "executor": "ray", **SHARDS})
    try:
        run([toy_corpus], out, recipe)
    finally:
        over.set()
        killer.join()
    assert killed
    assert content(out) == content(tmp_path / "whole")
