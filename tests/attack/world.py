"""Worlds of files to damage, with the commands that read each of them."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fasttext
import planted
import pyarrow as pa
import pyarrow.parquet as pq
from agents.arrays import toy_clusters, toy_target
from command import write_console

from mads.__main__ import run as run_mads
from mads.agents.fitting import cleaned, write_model
from mads.annotate import annotate as annotating
from mads.files import write_sealed_json
from mads.recipe import to_table, to_toml
from mads.store import build as indexing

NO_TRACE = "Traceback (most recent call last)"
HOW = ("new_index", "new_files", "new_agents", "new_shards")  # how much annotate had to make anew
INTERRUPTED = 130
KILLED = {
    "bin": (annotating, "bin_scores"),
    "sort": (indexing, "write_order"),
}  # where, by command
OWN = (
    *("--set", "influence.every=1", "--set", "rewards.probes_per_category=60"),
    *("--set", "rewards.competence=false"),
)
NOTES = (
    ".lock",
    "seen.json",
    "cost.json",
    "annotate.json",
    "corpus.json",
)  # paths, times, versions


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit code, words, and what it made (None when it failed)."""

    code: int
    words: str
    made: object


@dataclass(frozen=True)
class World:
    """A folder of files, and the commands that read them."""

    root: Path

    def command(self, name: str) -> list[object]:
        """Return the arguments of a command that reads the world."""
        raise NotImplementedError

    def written(self, name: str) -> Path:
        """Return the folder that a command writes."""
        raise NotImplementedError

    def run(self, name: str) -> Outcome:
        """Run a command in this process; what it wrote is part of the outcome."""
        found = mads(self.command(name))
        words = found.words.replace(str(self.root), "")
        if found.code:
            return Outcome(found.code, words, None)
        value = json.loads(str(found.made).replace(str(self.root), ""))
        for key in ("seconds", "complete", "ledger", *HOW):
            value.pop(key, None)
        out = self.written(name)
        files = {
            path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(out.rglob("*"))
            if path.is_file() and path.name not in NOTES
        }
        return Outcome(0, words, (value, files))


@dataclass(frozen=True)
class Trained(World):
    """corpus.jsonl, reference.jsonl, recipe.toml, prior.json, store, run, picked, console.json.

    ``own`` is a run that has made a generation of its own, with round 2.
    """

    @property
    def document(self) -> str:
        """A document that the last round has read."""
        return (self.root / "document").read_text()

    def command(self, name: str) -> list[object]:
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
        own = root / "own"
        commands |= {
            "own train": [*("--store", store, "--out", own, "--recipe", recipe, "--json"), *OWN],
            "own select": ["--store", store, "--run", own, "--out", out, *budget],
            "own explain": [store, self.document, "--run", own, "--json"],
        }
        commands["texts"] += ["--texts", "--corpus", root, "--megatron"]
        commands["part"] += ["--shard", "0/2", "--out", out, "--json"]
        commands["influence"] += ["--out", out / "model.bin"]
        verb = {"texts": "select", "console": "select", "influence": "fit"}.get(name, name)
        return [verb.removeprefix("own "), *commands[name]]

    def written(self, name: str) -> Path:
        return self.root / ("store" if name == "annotate" else "out")


@dataclass(frozen=True)
class Begun(World):
    """A corpus of every compressed format, a user's models, and stores of them, two of them killed.

    corpus/, agents/, recipe.toml, weights.json, console.json; finished (a store), lost (one without
    its manifest), scored (killed before its scores were binned), filled (killed before its buckets
    were sorted).
    """

    def command(self, name: str) -> list[object]:
        root = self.root
        annotate = [
            *("annotate", root / "corpus", "--recipe", root / "recipe.toml"),
            *("--set", f"agents.mine.model={root / 'agents' / 'mine.bin'}"),
            *("--set", f"agents.topics.model={root / 'agents' / 'topics.safetensors'}"),
            *("--set", f"agents.wanted.model={root / 'agents' / 'wanted.safetensors'}"),
            *("--out", self.written(name), "--json"),
        ]
        copy = [
            *("select", "--store", root / "finished", "--console", root / "console.json"),
            *("--docs", "40", "--texts", "--corpus", root / "corpus"),
            *("--set", "selection.threads=1", "--out", self.written(name), "--json"),
        ]
        return {"copy": copy, "verify": [*annotate, "--verify"]}.get(name, annotate)

    def written(self, name: str) -> Path:
        stores = {
            "bin": "scored",
            "sort": "filled",
            "again": "finished",
            "verify": "finished",
            "restore": "lost",
        }
        return self.root / stores.get(name, "out")


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


def build(root: Path) -> Trained:
    """Make the world of what train and select write."""
    planted.build(root)
    recipe = planted.recipe(
        root, steps=4, first_update=2, update_every=1, checkpoint_every=2, warmup=1
    )
    table: dict[str, Any] = to_table(recipe)
    write_sealed_json(root / "prior.json", {"weights": {"kind": {"useful": 1.5}}})
    table["console"]["prior_file"] = "prior.json"
    (root / "recipe.toml").write_text(to_toml(table))
    world = Trained(root)
    (root / "document").write_text("0")
    assert world.run("train").code == 0
    assert world.run("own train").code == 0
    (root / "own" / "generations" / "0002" / "influence.bin").unlink()  # large, and not read
    picked = world.command("select")
    picked[picked.index(root / "out")] = root / "picked"
    assert mads(picked).code == 0
    read = pq.read_table(root / "run" / "rounds" / "0002" / "selection.parquet", columns=["doc"])
    (root / "document").write_text(str(read["doc"][0].as_py()))
    state = (root / "run" / "rounds" / "0002" / "console.json").read_text()
    (root / "console.json").write_text(state)
    return world


RECIPE = """\
[corpus]
executor = "inline"
shard_bytes = 1

[tokenizer]
vocab_size = 300
sample_bytes = 20000

[agents.kind]
backend = "column"
field = "kind"
categories = ["useful", "neutral", "noise"]

[agents.mine]
backend = "fasttext"
quantiles = 3

[agents.topics]
backend = "cluster"

[agents.wanted]
backend = "target"
quantiles = 2

[console]
prior_file = "weights.json"
"""


def begin(root: Path) -> Begun:
    """Make the world of stores that annotate has begun, and of what the user gives it."""
    documents = planted.documents(each=20)
    lines = ["".join(json.dumps(d) + "\n" for d in documents[i : i + 20]).encode() for i in (0, 20)]
    (root / "corpus").mkdir(parents=True)
    (root / "corpus" / "a.jsonl.gz").write_bytes(gzip.compress(lines[0], mtime=0))
    zstd = pa.compress(lines[1], codec="zstd", asbytes=True)
    (root / "corpus" / "b.jsonl.zst").write_bytes(zstd)
    pq.write_table(pa.Table.from_pylist(documents[40:]), root / "corpus" / "c.parquet")
    write_mine(root / "agents" / "mine.bin", documents)
    for model in (toy_clusters(), toy_target()):
        name = "topics" if model == toy_clusters() else "wanted"
        for suffix in (".safetensors", ".json"):
            shutil.copy(model.with_suffix(suffix), root / "agents" / f"{name}{suffix}")
    (root / "recipe.toml").write_text(RECIPE)
    weights = {"kind": {"useful": 2.0, "noise": 0.5}}
    (root / "weights.json").write_text(json.dumps(weights))
    write_console(
        root / "console.json",
        {
            "kind": list(planted.KINDS),
            "mine": ["q1", "q2", "q3"],
            "topics": [f"c000{k}" for k in range(1, 5)],
            "wanted": ["q1", "q2"],
        },
        "useful",
    )
    world = Begun(root)
    assert world.run("again").code == 0
    for name, (module, step) in KILLED.items():
        with patch.object(module, step, side_effect=KeyboardInterrupt):
            assert world.run(name).code == INTERRUPTED
    shutil.copytree(root / "finished", root / "lost")
    (root / "lost" / "corpus.json").unlink()
    return world


def write_mine(path: Path, documents: Sequence[Mapping[str, Any]]) -> None:
    """Train a small fastText model with an ordinal scale, and write it with its card."""
    kinds = list(planted.KINDS)
    path.parent.mkdir(parents=True)
    lines = path.with_suffix(".txt")
    lines.write_text(
        "".join(f"__label__{kinds.index(d['kind'])} {cleaned(d['text'])}\n" for d in documents)
    )
    model = fasttext.train_supervised(str(lines), dim=4, epoch=5, lr=0.5, thread=1, verbose=0)
    lines.unlink()
    card = {
        "kind": "ordinal",
        "categories": kinds,
        "empty_category": kinds[0],
        "calibration": {"raw": [0.5, 2.5], "score": [0.0, 3.0]},
    }
    write_model(path, model, card, {})
