"""A store, a run and a selection of them, with the commands that read each of their files."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import planted
import pyarrow.parquet as pq

from mads.__main__ import run as run_mads
from mads.recipe import to_table, to_toml

NO_TRACE = "Traceback (most recent call last)"
HOW = ("new_index", "new_files", "new_agents", "new_shards")  # how much annotate had to make anew
NOTES = (".lock", "seen.json", "annotate.json", "corpus.json")  # paths, times, versions


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit code, words, and what it made (None when it failed)."""

    code: int
    words: str
    made: object


@dataclass(frozen=True)
class World:
    """Where everything lies: corpus.jsonl, reference.jsonl, recipe.toml, store, run, picked."""

    root: Path

    @property
    def document(self) -> str:
        """A document that the last round has read."""
        return (self.root / "document").read_text()

    def command(self, name: str) -> list[object]:
        """Return the arguments of a command that reads the world."""
        root, out = self.root, self.root / "out"
        store, recipe = root / "store", root / "recipe.toml"
        budget = ("--tokens", "2000", "--set", "selection.threads=1", "--json")
        commands: dict[str, list[object]] = {
            "annotate": [root / "corpus.jsonl", "--out", store, "--recipe", recipe, "--json"],
            "train": ["--store", store, "--out", root / "run", "--recipe", recipe, "--json"],
            "select": ["--store", store, "--run", root / "run", "--out", out, *budget],
            "texts": ["--store", store, "--run", root / "run", "--out", out, *budget],
            "console": [
                "--store",
                store,
                "--console",
                root / "console.json",
                "--out",
                out,
                *budget,
            ],
            "part": ["--store", store, "--plan", root / "picked" / "plan.json"],
            "explain": [store, self.document, "--run", root / "run", "--json"],
            "diff": [root / "picked", root / "picked", "--json"],
            "influence": ["influence", "--store", store, "--run", root / "run", "--json"],
        }
        commands["texts"] += ["--texts", "--corpus", root, "--megatron"]
        commands["part"] += ["--shard", "0/2", "--out", out, "--json"]
        commands["influence"] += ["--out", out / "model.bin"]
        verb = {"texts": "select", "console": "select", "influence": "fit"}.get(name, name)
        return [verb, *commands[name]]

    def run(self, name: str) -> Outcome:
        """Run a command in this process; what it wrote into ``out`` is part of the outcome."""
        found = mads(self.command(name))
        words = found.words.replace(str(self.root), "")
        if found.code:
            return Outcome(found.code, words, None)
        value = json.loads(str(found.made).replace(str(self.root), ""))
        for key in ("seconds", "complete", *HOW):
            value.pop(key, None)
        out = self.root / ("store" if name == "annotate" else "out")
        files = {
            path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(out.rglob("*"))
            if path.is_file() and path.name not in NOTES
        }
        return Outcome(0, words, (value, files))


def mads(arguments: Sequence[object]) -> Outcome:
    """Run the command line in this process."""
    out, words = io.StringIO(), io.StringIO()
    argv = ["mads", *map(str, arguments)]
    with (
        patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(words),
    ):
        code = run_mads()
    return Outcome(code, words.getvalue(), out.getvalue())


def build(root: Path) -> World:
    """Make the world."""
    planted.build(root)
    recipe = planted.recipe(
        root, steps=4, first_update=2, update_every=1, checkpoint_every=2, warmup=1
    )
    table: dict[str, Any] = to_table(recipe)
    (root / "recipe.toml").write_text(to_toml(table))
    world = World(root)
    (root / "document").write_text("0")
    assert world.run("train").code == 0
    picked = world.command("select")
    picked[picked.index(root / "out")] = root / "picked"
    assert mads(picked).code == 0
    read = pq.read_table(root / "run" / "rounds" / "0002" / "selection.parquet", columns=["doc"])
    (root / "document").write_text(str(read["doc"][0].as_py()))
    state = (root / "run" / "rounds" / "0002" / "console.json").read_text()
    (root / "console.json").write_text(state)
    return world
