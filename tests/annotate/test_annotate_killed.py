"""annotate in a process of its own, killed at any moment: the same store in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from annotate.test_annotate import SHARDS, content, run
from toys import MakeRecipe

from mads.config import Recipe
from mads.files import PARTIAL
from mads.recipe import to_table, to_toml

DEADLINE = 60.0  # seconds; only a hang reaches it


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)


def num_files(store: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(store))


def alive(group: int) -> list[int]:
    """Return the living processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == group and state != "Z":
                found.append(int(stat.parent.name))
    return found


def is_gone(group: int) -> bool:
    return not alive(group)


def has_come(store: Path, goal: int, process: subprocess.Popen[str]) -> bool:
    """Return whether the store has so many files, or the process has ended."""
    return num_files(store) >= goal or process.poll() is not None


def workers_of(pid: int) -> list[int]:
    """Return the worker processes of an annotate process."""
    found = [child for child in alive(pid) if child != pid]
    return [c for c in found if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]


# A test run in the background hands down that Ctrl-C is ignored.
MADS = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from mads.__main__ import main
main()
"""


@contextmanager
def running(corpus: Path, out: Path, recipe: Recipe) -> Iterator[subprocess.Popen[str]]:
    """Run ``mads annotate`` in a process group of its own."""
    path = out.with_suffix(".toml")
    path.write_text(to_toml(to_table(recipe)))
    command = [sys.executable, "-c", MADS, "annotate", str(corpus)]
    command += ["--out", str(out), "--recipe", str(path)]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_killed_at_any_moment_the_store_is_the_same(
    toy_corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    thirds = {"backend": "column", "field": "quality", "quantiles": 3}
    agents = to_table(toy_recipe())["agents"] | {"thirds": thirds}
    toy_recipe = partial(toy_recipe, agents=agents)
    whole, out = tmp_path / "whole", tmp_path / "store"
    run(
        [toy_corpus],
        whole,
        toy_recipe(corpus={"workers": 1, **SHARDS}),
    )
    killed = []
    for number, more in enumerate((1, 3, 25, 50, 60)):
        workers = 1 + number % 2
        recipe = toy_recipe(corpus={"workers": workers, **SHARDS})
        goal = num_files(out) + more
        with running(toy_corpus, out, recipe) as process:
            wait_until(partial(has_come, out, goal, process))
            if number % 3:  # the parent alone, or the whole group
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
            killed.append(process.wait() == -signal.SIGKILL)
            wait_until(partial(is_gone, process.pid))
            assert process.stderr is not None
            assert "mads: " not in process.stderr.read()
    assert sum(killed) >= 3
    for name in (
        "work-of-a-killed-one.partial/documents/shard-00038.parquet",
        "work-of-a-killed-one.partial/tokens/shard-00038.bin",
        "index/0001/cells.parquet",
    ):
        if not (out / name).exists():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / (name + PARTIAL)).write_bytes(b"half")
    recipe = toy_recipe(corpus={"workers": 2, **SHARDS})
    run([toy_corpus], out, recipe)
    assert content(out) == content(whole)
    assert not list(out.rglob(f"*{PARTIAL}"))


def test_a_killed_worker_is_reported(
    toy_corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    out = tmp_path / "store"
    recipe = toy_recipe(corpus={"workers": 1, **SHARDS})
    with running(toy_corpus, out, recipe) as process:
        wait_until(lambda: num_files(out) >= 12)
        for pid in workers_of(process.pid):
            os.kill(pid, signal.SIGKILL)
        _, words = process.communicate(timeout=DEADLINE)
        assert process.returncode == 1
    assert "mads: a worker process was killed, most likely for want of RAM." in words
    assert "Traceback" not in words


@pytest.mark.parametrize("workers_first", [False, True])
def test_ctrl_c_says_so_without_a_traceback(
    toy_corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path, workers_first: bool
) -> None:
    out = tmp_path / "store"
    recipe = toy_recipe(corpus={"workers": 1, **SHARDS})
    with running(toy_corpus, out, recipe) as process:
        wait_until(lambda: num_files(out) >= 12)
        if workers_first:  # as on a busy machine
            for pid in workers_of(process.pid):
                os.kill(pid, signal.SIGINT)
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
        else:
            os.killpg(process.pid, signal.SIGINT)
        _, words = process.communicate(timeout=DEADLINE)
        assert process.returncode == 130
    assert "mads: interrupted; run the same command to go on." in words
    assert "Traceback" not in words
