"""Readers beside a writer that is killed: a complete state, or a word that there is none."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import planted
import pyarrow.parquet as pq
import pytest
from command import mads

from mads.annotate.annotate import annotate
from mads.config import Recipe
from mads.console import initial_state
from mads.console.scores import cell_scores
from mads.console.state import console_to_json
from mads.errors import MadsError
from mads.export.command import Exports, Followed, Request, select_and_write
from mads.recipe import to_table, to_toml
from mads.selection.plan import Cursors
from mads.store.store import Store
from mads.units import Budget

NOT_COMPLETE = re.compile(
    r"is not complete: it has no corpus\.json|is not a store: it has no corpus\.json"
    r"|store \S+ does not exist|corpus\.json does not exist|was changed by `mads annotate`"
)
# The writer kills itself before or after it publishes a file of this name.
WRITER = """
import os, signal, sys
import mads.files as files
when, name, corpus, store, recipe = sys.argv[1:]
def count(now, path):
    if (now, path.name) == (when, name):
        os.kill(os.getpid(), signal.SIGKILL)
publish = files.publish
def counted(partial, path):
    count("before", path)
    publish(partial, path)
    count("after", path)
files.publish = counted
from pathlib import Path
from mads.recipe import load_recipe
from mads.annotate.annotate import annotate
annotate([Path(corpus)], Path(store), load_recipe(Path(recipe)), lambda *_: None)
"""
MOMENTS = [
    ("after", "annotate.json"),
    ("after", "order.parquet"),
    ("after", "cells.parquet"),
    ("before", "corpus.json"),
    ("never", ""),
]


class Reader(threading.Thread):
    """Selects from a store again and again, each time opening it anew."""

    def __init__(self, store: Path, out: Path, recipe: Recipe) -> None:
        super().__init__()
        self._store, self._out, self._recipe = store, out, recipe
        self.end = threading.Event()
        self.found: list[tuple[tuple[str, ...], list[int]]] = []
        self.refused: list[str] = []
        self.crashed: list[BaseException] = []

    def run(self) -> None:
        number = 0
        while not self.end.is_set():
            number += 1
            try:
                self.found.append(select(self._store, self._out / str(number), self._recipe))
            except MadsError as error:
                self.refused.append(str(error))
            except BaseException as error:  # noqa: BLE001 - the test shows it
                self.crashed.append(error)


def select(root: Path, out: Path, recipe: Recipe) -> tuple[tuple[str, ...], list[int]]:
    """Return the store's agents and the documents that equal weights select."""
    store = Store(root)
    state = initial_state(store.cells.categories)
    score_C, start = cell_scores(store.cells, state), Cursors.start(len(store.cells))
    follow = Followed(score_C, console_to_json(state), start)
    request = Request(follow, Budget(2000, "tokens"), recipe)
    select_and_write(store, request, out, Exports(None, False, lambda *_: None))
    return tuple(store.spec.agents), pq.read_table(out / "selection.parquet")["doc"].to_pylist()


def with_agents(recipe: Recipe, *names: str) -> Recipe:
    return replace(recipe, agents={name: recipe.agents[name] for name in names})


def test_readers_beside_a_writer_that_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, store = tmp_path / "corpus.jsonl", tmp_path / "store"
    corpus.write_text("\n".join(json.dumps(d) for d in planted.documents()) + "\n")
    whole = planted.recipe(tmp_path)
    expected: dict[tuple[str, ...], list[int]] = {}
    for agents in (("kind",), ("kind", "coin")):
        recipe = with_agents(whole, *agents)
        place = tmp_path / "-".join(agents)
        annotate([corpus], place, recipe, lambda *_: None)
        expected[agents] = select(place, tmp_path / "expected" / place.name, whole)[1]
        (tmp_path / f"{len(agents)}.toml").write_text(to_toml(to_table(recipe)))
    assert expected["kind",] != expected["kind", "coin"]
    readers = [Reader(store, tmp_path / f"reader{i}", whole) for i in range(2)]
    for reader in readers:
        reader.start()
    try:
        for number in (1, 2):
            for when, name in MOMENTS:
                code = write(when, name, corpus, store, tmp_path / f"{number}.toml")
                assert code == (0 if when == "never" else -signal.SIGKILL)
                place = tmp_path / f"{number}-{when}-{Path(name).stem}"
                refused_or_whole(store, place, capsys, expected)
    finally:
        for reader in readers:
            reader.end.set()
            reader.join()
    for reader in readers:
        assert reader.crashed == []
        assert {agents for agents, _ in reader.found} == set(expected)
        assert all(docs == expected[agents] for agents, docs in reader.found)
        assert reader.refused
        assert [text for text in reader.refused if not NOT_COMPLETE.search(text)] == []


def write(when: str, name: str, corpus: Path, store: Path, recipe: Path) -> int:
    """Annotate in a process of its own; return how it ended."""
    arguments = (when, name, str(corpus), str(store), str(recipe))
    return subprocess.run([sys.executable, "-c", WRITER, *arguments]).returncode


def refused_or_whole(
    store: Path,
    out: Path,
    capsys: pytest.CaptureFixture[str],
    expected: dict[tuple[str, ...], list[int]],
) -> None:
    """Check the command line while nobody writes: exit code 1 and a word, or what is expected."""
    state = out.with_suffix(".json")
    weights = {"kind": dict.fromkeys(["useful", "neutral", "noise"], 1.0)}
    weights["coin"] = {"heads": 1.0, "tails": 1.0}
    value = {"round": 0, "theta": {"kind": 0.5, "coin": 0.5}, "weights": weights}
    state.write_text(json.dumps(value))
    arguments = ("--store", store, "--console", state, "--tokens", "2000", "--out", out)
    code, _, err = mads(capsys, "select", *arguments, "--set", "selection.threads=1")
    if (store / "corpus.json").exists():
        assert code == 0
        docs = pq.read_table(out / "selection.parquet")["doc"].to_pylist()
        assert docs == expected[tuple(Store(store).spec.agents)]
    else:
        assert code == 1
        assert NOT_COMPLETE.search(err.replace("\n", " "))
        assert not out.exists()
