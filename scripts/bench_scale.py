"""What growth, many shards and verification cost.

    annotate_growth_ratio      adding one file to a store of n, over annotating n + 1 at once
    add_agent_ratio            adding an agent to a store, over annotating it with all agents
    unchanged_ratio            annotating a finished store again, over annotating it
    jsonl_pass_ratio           bytes decompressed over the file's size, one file of many shards
    jsonl_pass_ratio_2_workers the same, a compressed file shared by two workers
    open_files_peak            descriptors while a batch reader goes through 2,000 shards
    shards_batch_ratio         reading batches from 2,000 shards, over the same documents in one
    verify_overhead            of `mads select`: time to verify what it reads, over the process
    verify_step_overhead       of a training step: time to verify its tokens, over the step
    small_files_per_s          files of one document each that annotate scans, labels and joins

The annotate figures are whole commands over the text that is installed with mads; selection runs
over a made-up store. With --quick the store of the selection has 3 million documents, not 100.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from synthetic import index_store, write_store

from mads.annotate.annotate import annotate
from mads.blocks import Verifier
from mads.config import Recipe
from mads.corpus.readers import records
from mads.corpus.streams import Stream, open_stream
from mads.demo.harvest import harvest
from mads.recipe import load_recipe, recipe_from_table, to_table, to_toml
from mads.store.store import Store
from mads.training.data import StretchData

NUM_FILES = 9  # besides the one that is added
SHARDS = 2_000
SHARD_ROWS = 5
SMALL_FILES = 2_000


def silent(what: str, done: int, total: int) -> None:
    """Show no progress."""
    del what, done, total


def mads(*arguments: object) -> float:
    """Run a command in a process of its own; return seconds."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "mads", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return time.perf_counter() - begun


def make_files(folder: Path) -> list[Path]:
    """Return NUM_FILES + 1 files of like size, made from the installed text."""
    harvest(folder / "harvested")
    lines = []
    for path in sorted((folder / "harvested" / "corpus").iterdir()):
        lines += path.read_text(encoding="utf-8").splitlines()
    lines = [lines[i] for i in np.random.default_rng(0).permutation(len(lines))]
    (folder / "corpus").mkdir()
    paths = []
    for i in range(NUM_FILES + 1):
        paths.append(folder / "corpus" / f"{i}.jsonl")
        paths[-1].write_text("\n".join(lines[i :: NUM_FILES + 1]) + "\n", encoding="utf-8")
    return paths


def bench_growth(folder: Path, figures: dict[str, float]) -> None:
    """Time a whole annotate, one more file, one more agent, and nothing new."""
    files = make_files(folder)
    recipe = to_table(load_recipe(Path("small")))
    fewer = {**recipe, "agents": {n: a for n, a in recipe["agents"].items() if n != "topic"}}
    for name, table in (("all", recipe), ("fewer", fewer)):
        (folder / f"{name}.toml").write_text(to_toml(table))
    whole = mads("annotate", *files, "--out", folder / "whole", "--recipe", folder / "all.toml")
    mads("annotate", *files[:-1], "--out", folder / "grown", "--recipe", folder / "all.toml")
    more = mads("annotate", *files, "--out", folder / "grown", "--recipe", folder / "all.toml")
    again = mads("annotate", *files, "--out", folder / "grown", "--recipe", folder / "all.toml")
    mads("annotate", *files, "--out", folder / "added", "--recipe", folder / "fewer.toml")
    agent = mads("annotate", *files, "--out", folder / "added", "--recipe", folder / "all.toml")
    nothing = mads("--version")
    figures |= {
        "annotate_s": whole,
        "start_s": nothing,
        "annotate_growth_ratio": (more - nothing) / (whole - nothing),
        "growth_ratio_of_work": 1 / (NUM_FILES + 1),
        "add_agent_ratio": (agent - nothing) / (whole - nothing),
        "unchanged_ratio": (again - nothing) / (whole - nothing),
    }


@contextmanager
def counted_bytes() -> Iterator[list[int]]:
    """Count the bytes that are read of JSON-lines files, uncompressed."""
    opened, total = open_stream, [0]

    class Counted:
        def __init__(self, path: Path) -> None:
            self._stream = opened(path)

        def __enter__(self) -> Counted:
            return self

        def __exit__(self, *_: object) -> None:
            self._stream.__exit__(None, None, None)

        def seek(self, place: int) -> None:
            self._stream.seek(place)

        def read(self, length: int) -> bytes:
            chunk: bytes = self._stream.read(length)
            total[0] += len(chunk)
            return chunk

    def counted(path: Path, raw: Any = None) -> Stream:
        return opened(path, raw) if raw else Counted(path)  # a scan reads besides

    with patch.object(records, "open_stream", counted):
        yield total


def column_recipe(**corpus: Any) -> Recipe:
    """Return a recipe whose one agent reads a column, so that files are all of the cost."""
    agent = {"backend": "column", "field": "kind", "categories": ["a", "b"]}
    table = {"agents": {"kind": agent}, "tokenizer": {"vocab_size": 300}, "corpus": corpus}
    return recipe_from_table(table, "the benchmark")


def rows_of(count: int) -> list[str]:
    """Return JSON lines."""
    return [
        json.dumps({"text": f"document {i} of many small ones", "kind": "ab"[i % 2]}) + "\n"
        for i in range(count)
    ]


def bench_passes(folder: Path, figures: dict[str, float]) -> None:
    """Count what labelling reads of one file that makes many shards."""
    data = "".join(rows_of(300_000)).encode()
    for suffix, pack in (("jsonl", bytes), ("jsonl.gz", gzip.compress)):
        (folder / f"one.{suffix}").write_bytes(pack(data))
    for name, suffix, workers in (
        ("jsonl_pass_ratio", "jsonl.gz", 1),
        ("jsonl_pass_ratio_plain", "jsonl", 2),
        ("jsonl_pass_ratio_2_workers", "jsonl.gz", 2),
    ):
        recipe = column_recipe(workers=workers, executor="inline", shard_docs=5_000)
        out = folder / name
        with counted_bytes() as total:
            # The tokenizer's own pass over its sample is made first, and not counted.
            annotate([folder / f"one.{suffix}"], out, recipe, silent)
            trained = len(data)
        figures[name] = (total[0] - trained) / len(data)


def open_files() -> int:
    """Return the number of this process's open files."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only


def read_batches(store: Store, batches: int) -> tuple[float, int]:
    """Read batches of a whole epoch's order; return seconds and the peak of open files."""
    order = store.order.rows(np.arange(int(store.cells.num_docs_C.sum())), ["doc", "num_tokens"])
    tokens_N: NDArray[np.int64] = order["num_tokens"].astype(np.int64)
    context, rows = 64, 32
    sequences = int(tokens_N.sum()) // context
    data = StretchData(store, order["doc"], tokens_N, sequences, context, seed=0)
    begun, peak = time.perf_counter(), 0
    for number in range(min(batches, sequences // rows)):
        data.batch(number, rows, True)
        peak = max(peak, open_files() if number % 10 == 0 else 0)
    return time.perf_counter() - begun, peak


def bench_shards(folder: Path, figures: dict[str, float]) -> None:
    """Read the same documents from 2,000 shards and from one."""
    (folder / "many.jsonl").write_text("".join(rows_of(SHARDS * SHARD_ROWS)))
    seconds = {}
    for name, shard_docs in (("one", SHARDS * SHARD_ROWS), ("many", SHARD_ROWS)):
        recipe = column_recipe(workers=1, executor="inline", shard_docs=shard_docs)
        begun = time.perf_counter()
        annotate([folder / "many.jsonl"], folder / name, recipe, silent)
        figures[f"annotate_{name}_shards_s"] = time.perf_counter() - begun
        store = Store(folder / name)
        seconds[name], peak = read_batches(store, 100)
    assert len(store.spec.shards) == SHARDS
    figures["open_files_peak"] = peak
    figures["shards_batch_ratio"] = seconds["many"] / seconds["one"]


def bench_small_files(folder: Path, figures: dict[str, float]) -> None:
    """Time annotate over many files of one document."""
    (folder / "files").mkdir()
    for i, line in enumerate(rows_of(SMALL_FILES)):
        (folder / "files" / f"{i:05d}.jsonl").write_text(line)
    recipe = column_recipe()
    begun = time.perf_counter()
    annotate([folder / "files"], folder / "joined", recipe, silent)
    figures["small_files_per_s"] = SMALL_FILES / (time.perf_counter() - begun)
    figures["small_files_shards"] = len(Store(folder / "joined").spec.shards)


SELECT = """
import sys, time
from mads.blocks import Verifier
from mads.index import order as module
spent = [0.0]
def timed(work):
    def run(*arguments, **options):
        begun = time.perf_counter()
        try:
            return work(*arguments, **options)
        finally:
            spent[0] += time.perf_counter() - begun
    return run
module.Order.check = timed(module.Order.check)
module.check_seal = timed(module.check_seal)
begun = time.perf_counter()
from mads.__main__ import run
sys.argv = ["mads", "select", "--store", sys.argv[1], "--console", sys.argv[2], "--tokens",
            sys.argv[3], "--out", sys.argv[4], "--json", "--set", "selection.threads=2"]
code = run()
print(spent[0], time.perf_counter() - begun, file=sys.stderr)
sys.exit(code)
"""


def bench_select(folder: Path, num_docs: int, figures: dict[str, float]) -> None:
    """Time what `mads select` spends on verifying the index that it reads."""
    write_store(folder, num_docs)
    index_store(folder, num_docs, "2GB")
    store = Store(folder)
    categories = store.cells.categories
    rng = np.random.default_rng(0)
    weights = {a: {n: float(rng.uniform(0.5, 2)) for n in names} for a, names in categories.items()}
    state = {"round": 1, "theta": dict.fromkeys(weights, 1 / len(weights)), "weights": weights}
    (folder / "console.json").write_text(json.dumps(state))
    tokens = int(store.cells.num_tokens_C.sum()) // 100
    arguments = [folder, folder / "console.json", tokens, folder / "picked"]
    command = [sys.executable, "-c", SELECT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    spent, seconds = map(float, done.stderr.split()[-2:])
    figures |= {
        "verify_docs": num_docs,
        "verify_s": spent,
        "select_s": seconds,
        "verify_overhead": spent / (seconds - spent),
    }


def bench_step(store: Store, figures: dict[str, float]) -> None:
    """Time what the steps of a small model spend on verifying the tokens that they read."""
    from mads.training.build import build_model
    from mads.training.trainer import Trainer

    recipe = load_recipe(Path("small"))
    config, size = recipe.training, store.tokenizer.vocab_size
    trainer = Trainer(build_model(recipe.model, config, size, seed=0), config, seed=0)
    order = store.order.rows(np.arange(int(store.cells.num_docs_C.sum())), ["doc", "num_tokens"])
    tokens_N = order["num_tokens"].astype(np.int64)
    rows = config.batch_tokens // config.context
    sequences = int(tokens_N.sum()) // config.context
    data = StretchData(store, order["doc"], tokens_N, sequences, config.context, seed=0)
    check, spent = Verifier.check, [0.0]

    def timed(self: Verifier, *arguments: Any) -> None:
        begun = time.perf_counter()
        check(self, *arguments)
        spent[0] += time.perf_counter() - begun

    trainer.step(0, data.batch(0, rows, True))
    with patch.object(Verifier, "check", timed):
        begun = time.perf_counter()
        for number in range(1, 9):
            trainer.step(number, data.batch(number, rows, True))
        seconds = time.perf_counter() - begun
    figures["verify_step_overhead"] = spent[0] / (seconds - spent[0])


def main() -> None:
    """Run the benchmark and print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes: 3 M documents")
    parser.add_argument("--json", action="store_true", help="print one flat object as last line")
    options = parser.parse_args()
    figures: dict[str, float] = {}
    parts: list[Callable[[Path, dict[str, float]], None]] = [
        bench_growth,
        bench_passes,
        bench_shards,
        bench_small_files,
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in parts:
            (folder / part.__name__).mkdir()
            part(folder / part.__name__, figures)
        bench_step(Store(folder / "bench_growth" / "whole"), figures)
        bench_select(folder / "select", 3 * 10**6 if options.quick else 10**8, figures)
    for key, value in figures.items():
        print(f"{key:28} {value:14,.4f}")
    if options.json:
        print(json.dumps({key: round(value, 5) for key, value in figures.items()}))


if __name__ == "__main__":
    main()
