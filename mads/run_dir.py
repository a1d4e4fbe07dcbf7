"""Every file name in a store and in a run, and the one way in which files are written.

A file exists under its name only when it is whole: it is written beside its place, synced and
renamed. What a killed process leaves behind ends in ``.partial`` and is written anew.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import mads
from mads.errors import DataError, UsageError

LOCK = ".lock"
PARTIAL = ".partial"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path; when the block ends without an error it becomes ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    try:
        yield partial
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    publish(partial, path)


def publish(partial: Path, path: Path) -> None:
    """Sync a finished file (or folder of files) and rename it into its place."""
    inside = sorted(partial.rglob("*")) if partial.is_dir() else []
    for entry in (*inside, partial):
        sync(entry)
    if path.is_dir():
        shutil.rmtree(path)
    partial.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Sync a file, or a folder, so that a rename in it survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN and infinity are refused (ValueError)."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; raises DataError when the file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Hold a folder for one writer.

    Raises UsageError when it is a file, DataError when another process holds it.
    """
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file, not a folder. Give another --out.")
    root.mkdir(parents=True, exist_ok=True)
    with (root / LOCK).open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(
                f"{root} is being written by another mads process. Wait for it, or stop it."
            ) from error
        yield


def shard_name(shard: int) -> str:
    """Return the file stem of a shard."""
    return f"shard-{shard:05d}"


@dataclass(frozen=True, slots=True)
class StoreDir:
    """The files of a store (what ``mads annotate`` writes)."""

    root: Path

    @property
    def manifest(self) -> Path:
        """The manifest; it is written last, so it exists only in a complete store."""
        return self.root / "corpus.json"

    @property
    def draft(self) -> Path:
        """What a store in the making is made from."""
        return self.root / "annotate.json"

    @property
    def tokenizer(self) -> Path:
        """A Hugging Face tokenizer folder."""
        return self.root / "tokenizer"

    def documents(self, shard: int) -> Path:
        """Return the table of a shard's documents."""
        return self.root / "documents" / f"{shard_name(shard)}.parquet"

    def tokens_bin(self, shard: int) -> Path:
        """Return a shard's tokens (Megatron indexed data set)."""
        return self.root / "tokens" / f"{shard_name(shard)}.bin"

    def tokens_idx(self, shard: int) -> Path:
        """Return the index of a shard's tokens."""
        return self.root / "tokens" / f"{shard_name(shard)}.idx"

    def memory(self, agent: str) -> Path:
        """Return the folder of an agent's memory."""
        return self.root / "memories" / agent

    def memory_shard(self, agent: str, shard: int) -> Path:
        """Return one shard of an agent's memory."""
        return self.memory(agent) / f"{shard_name(shard)}.parquet"

    def scores(self, agent: str) -> Path:
        """Return the folder of an agent's scores while they are collected for quantiles."""
        return self.memory(agent) / f"scores{PARTIAL}"

    def scores_shard(self, agent: str, shard: int) -> Path:
        """Return one shard of an agent's scores."""
        return self.scores(agent) / f"{shard_name(shard)}.parquet"

    @property
    def cells(self) -> Path:
        """The cell index."""
        return self.root / "index" / "cells.parquet"

    @property
    def order(self) -> Path:
        """Every selectable document, cell after cell, shuffled within a cell."""
        return self.root / "index" / "order.parquet"


@dataclass(frozen=True, slots=True)
class RoundDir:
    """The files of one round (one console update and the selection that follows)."""

    root: Path

    @property
    def console(self) -> Path:
        """The console state that the selection follows."""
        return self.root / "console.json"

    @property
    def rewards(self) -> Path:
        """The rewards of the probed documents."""
        return self.root / "rewards.parquet"

    @property
    def selection(self) -> Path:
        """The selected documents."""
        return self.root / "selection.parquet"

    @property
    def plan(self) -> Path:
        """The plan; it is written last, so it exists only in a complete round."""
        return self.root / "plan.json"


@dataclass(frozen=True, slots=True)
class RunDir:
    """The files of a run (what ``mads train`` writes)."""

    root: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.root / "recipe.toml"

    @property
    def provenance(self) -> Path:
        """What made the run: versions, machine, store."""
        return self.root / "provenance.json"

    @property
    def metrics(self) -> Path:
        """One JSON object per line."""
        return self.root / "metrics.jsonl"

    @property
    def result(self) -> Path:
        """How the run ended; it is written last, so it exists only in a complete run."""
        return self.root / "result.json"

    @property
    def latest(self) -> Path:
        """The name of the newest complete checkpoint."""
        return self.root / "checkpoints" / "latest"

    def checkpoint(self, step: int) -> Path:
        """Return the folder of a checkpoint."""
        return self.root / "checkpoints" / f"step-{step:08d}"

    def round(self, number: int) -> RoundDir:
        """Return the folder of a round."""
        return RoundDir(self.root / "rounds" / f"{number:04d}")

    def last_round(self) -> int:
        """Return the number of the newest complete round; raises DataError without one."""
        folder = self.root / "rounds"
        found = [int(p.parent.name) for p in folder.glob("[0-9]*/plan.json")]
        if not found:
            raise DataError(
                f"{self.root} holds no complete round (no rounds/*/plan.json). "
                "Is it the folder that `mads train --out` wrote?"
            )
        return max(found)


def provenance(**extra: Any) -> Mapping[str, Any]:
    """Return the versions and the machine behind a result, with the caller's own facts."""
    packages = ("torch", "transformers", "tokenizers", "pyarrow", "duckdb", "fasttext-community")
    return {
        "mads": mads.__version__,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        **extra,
    }


class Metrics:
    """metrics.jsonl: one JSON object per line, in the order in which things happened."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record."""
        with self._path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(record) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """Return all records; half a line, as a killed process leaves it, is left out."""
        if not self._path.is_file():
            return []
        records = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
        return records

    def cut(self, step: int, *, keep_end: bool) -> None:
        """Forget what happened after the checkpoint that a run goes on from."""
        kept = [
            record
            for record in self.read()
            if record["step"] < step or (keep_end and record["kind"] == "end")
        ]
        write_text(self._path, "".join(json.dumps(record) + "\n" for record in kept))

    def find(self, kind: str) -> dict[str, Any] | None:
        """Return the last record of a kind, or None."""
        return next((r for r in reversed(self.read()) if r["kind"] == kind), None)

    def sync(self) -> None:
        """Make what was written so far survive a power cut."""
        with self._path.open("rb") as handle:
            os.fsync(handle.fileno())
