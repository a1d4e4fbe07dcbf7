"""Every file name in a store, a run and a comparison."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mads.errors import UsageError
from mads.files import PARTIAL


def shard_name(shard: int) -> str:
    """Return the file stem of a shard."""
    return f"shard-{shard:05d}"


@dataclass(frozen=True, slots=True)
class IndexDir:
    """The files of one generation of a store: an index of its documents as they were then."""

    root: Path

    @property
    def cells(self) -> Path:
        """The cells: one row for each."""
        return self.root / "cells.parquet"

    @property
    def order(self) -> Path:
        """Every selectable document, cell after cell, shuffled within a cell."""
        return self.root / "order.parquet"

    @property
    def order_sums(self) -> Path:
        """The checksums of the order, which is read in part."""
        return self.root / "order.sum"

    @property
    def content(self) -> Path:
        """The seals of all files that the generation is made from."""
        return self.root / "content.json"

    @property
    def own_files(self) -> tuple[Path, ...]:
        """What the manifest seals."""
        return (self.cells, self.order, self.order_sums, self.content)

    @property
    def facts(self) -> Path:
        """What the manifest says of the generation, in case that the manifest is lost."""
        return self.root / "generation.json"

    @property
    def buckets(self) -> Path:
        """A folder for the making of the order."""
        return self.root / f"buckets{PARTIAL}"


@dataclass(frozen=True, slots=True)
class RefreshDir(IndexDir):
    """A generation that a run has made of a store for itself: an index, and one agent's memory."""

    @property
    def number(self) -> int:
        """The round with which it was made."""
        return int(self.root.name)

    @property
    def memory(self) -> Path:
        """The folder of the agent's memory."""
        return self.root / "memory"

    @property
    def model(self) -> Path:
        """The agent's model, for whoever wants to look at it; its card lies beside it."""
        return self.root / "influence.bin"


REFRESHED = "influence.own"
"""What a run's own memory is called among an agent's folders; no agent of a store has this name."""


WORKPLACE = "work-"


@dataclass(frozen=True, slots=True)
class StoreDir:
    """The files of a store (what ``mads annotate`` writes).

    ``own``: the generation of a run that stands in for the store's index and adds a memory to it.
    """

    root: Path
    own: RefreshDir | None = None

    @property
    def manifest(self) -> Path:
        """The manifest; it is written last, so it exists only in a complete store."""
        return self.root / "corpus.json"

    @property
    def spec(self) -> Path:
        """What a store (or its next generation) in the making is made from."""
        return self.root / "annotate.json"

    @property
    def seen(self) -> Path:
        """Sizes and times of files whose content was verified."""
        return self.root / "seen.json"

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

    def tokens_sum(self, shard: int) -> Path:
        """Return the checksums of a shard's tokens and their index."""
        return self.root / "tokens" / f"{shard_name(shard)}.sum"

    def memory(self, folder: str) -> Path:
        """Return the folder of an agent's memory (``AgentInfo.folder``)."""
        if self.own is not None and folder == REFRESHED:
            return self.own.memory
        return self.root / "memories" / folder

    def memory_shard(self, folder: str, shard: int) -> Path:
        """Return one shard of an agent's memory."""
        return self.memory(folder) / f"{shard_name(shard)}.parquet"

    @property
    def prepared(self) -> Path:
        """What agents make for themselves while they label."""
        return self.root / f"prepared{PARTIAL}"

    def scores(self, folder: str) -> Path:
        """Return the folder of an agent's scores while they are collected for quantiles."""
        return self.memory(folder) / f"scores{PARTIAL}"

    def scores_shard(self, folder: str, shard: int) -> Path:
        """Return one shard of an agent's scores."""
        return self.scores(folder) / f"{shard_name(shard)}.parquet"

    @property
    def cost(self) -> Path:
        """What annotating has cost; measured, so no two stores have the same."""
        return self.root / "cost.json"

    @property
    def costs(self) -> Path:
        """A folder in which processes note their costs until these are added up."""
        return self.root / f"costs{PARTIAL}"

    @property
    def workplaces(self) -> list[Path]:
        """The folders in which processes write, each its own, before files get their names."""
        return sorted(self.root.glob(f"{WORKPLACE}*{PARTIAL}"))

    def index(self, generation: int) -> IndexDir:
        """Return the folder of a generation's index."""
        return IndexDir(self.root / "index" / f"{generation:04d}")

    def name_of(self, path: Path) -> str:
        """Return a file's name as the seals know it: its path in the store, or in the run's own."""
        if self.own is not None and path.is_relative_to(self.own.root):
            return f"own/{path.relative_to(self.own.root).as_posix()}"
        return path.relative_to(self.root).as_posix()


OPTIMIZER = "optimizer.safetensors"  # in a checkpoint


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

    @property
    def turn(self) -> Path:
        """What `mads step` made the round from; it is written last of all."""
        return self.root / "turn.json"


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

    def ended(self, step: int) -> Path:
        """Return where the last checkpoint of a run is kept that was extended later."""
        return self.root / "ended" / self.checkpoint(step).name

    @property
    def checkpoints(self) -> list[int]:
        """The numbers of steps after which there are checkpoints, the oldest first."""
        names = (path.name for path in self.latest.parent.glob("step-*"))
        return sorted(int(name[5:]) for name in names if name[5:].isdecimal())

    def checkpoint(self, step: int) -> Path:
        """Return the folder of a checkpoint."""
        return self.root / "checkpoints" / f"step-{step:08d}"

    def round(self, number: int) -> RoundDir:
        """Return the folder of a round."""
        return RoundDir(self.root / "rounds" / f"{number:04d}")

    def refresh(self, number: int) -> RefreshDir:
        """Return the folder of the generation that the run has made with a round."""
        return RefreshDir(self.root / "generations" / f"{number:04d}")


@dataclass(frozen=True, slots=True)
class ComparisonDir:
    """The files of a comparison (what ``mads compare`` writes): runs by arm and seed."""

    root: Path

    @property
    def arms(self) -> Path:
        """The resolved arms, which may not change."""
        return self.root / "arms.toml"

    @property
    def comparison(self) -> Path:
        """What was found; it is written last."""
        return self.root / "comparison.json"

    def recipe(self, arm: str) -> Path:
        """Return an arm's recipe, whatever the seed."""
        return self.root / arm / "recipe.toml"

    def run(self, arm: str, seed: int) -> RunDir:
        """Return a run of an arm."""
        return RunDir(self.root / arm / f"seed-{seed}")

    def log(self, arm: str, seed: int) -> Path:
        """Return what a run has said."""
        return self.root / arm / f"seed-{seed}.log"


def kind_of(folder: Path) -> str:
    """Return what mads has made of a folder: a store, a run or a selection; "" for none."""
    store, run, picked = StoreDir(folder), RunDir(folder), RoundDir(folder)
    if store.spec.is_file():
        return "a store"
    if run.provenance.is_file() and run.recipe.is_file():
        return "a run"
    return "a selection" if picked.plan.is_file() and picked.selection.is_file() else ""


def check_kind(folder: Path, wanted: Literal["a store", "a run"]) -> None:
    """Raise UsageError for what is no folder, or what mads has made as something else."""
    maker = {"a store": "annotate", "a run": "train"}[wanted]
    if not folder.exists():  # nor for a loop of links
        name = wanted.removeprefix("a ")
        raise UsageError(f"{name} {folder} does not exist. `mads {maker}` makes one.")
    found = kind_of(folder) if folder.is_dir() else "no folder"
    if found not in ("", wanted):
        raise UsageError(
            f"{folder} is {found}, expected {wanted}. Give the folder that `mads {maker} --out` "
            "wrote."
        )


def refuse_inside(out: Path) -> None:
    """Raise UsageError for a place inside of what mads has made, whose files would be mixed."""
    for parent in Path(os.path.realpath(out)).parents:  # which bears a loop of links
        if kind := kind_of(parent):
            raise UsageError(f"{out} lies in {parent}, which is {kind}. Give another --out.")
