"""What a selection leaves behind: plan.json, selection.parquet and, if asked for, the texts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mads.config import SelectionConfig
from mads.corpus.rows import RowFormat, raw_lines
from mads.corpus.tokens import TokenWriter
from mads.errors import DataError
from mads.memory.store import Store
from mads.run_dir import RoundDir, atomic_path, read_json, write_json
from mads.seeds import derive, shuffled
from mads.selection.plan import Cursors, Plan
from mads.selection.query import Selection
from mads.types import ROW_BITS, ConsoleState

TOKENS = ("tokens.bin", "tokens.idx")
LARGEST = 1e100  # of a console state: a product of two, divided by a temperature, stays finite


@dataclass(frozen=True, slots=True)
class Chosen:
    """One selection with its plan; a round that needs more than the corpus has several."""

    plan: Plan
    selection: Selection


def write_selection(
    folder: RoundDir,
    chosen: Sequence[Chosen],
    state: ConsoleState,
    config: SelectionConfig,
    store: Store,
    seed: int,
) -> None:
    """Write console.json, selection.parquet and, last, plan.json."""
    write_json(folder.console, console_to_json(state))
    tables = [c.selection.to_table(store.cells) for c in chosen]
    with atomic_path(folder.selection) as partial:
        pq.write_table(pa.concat_tables(tables), partial, compression="zstd")
    plan = {
        "store": store.fingerprint,
        "round": state.round,
        "seed": seed,
        "policy": config.policy,
        "budget_tokens": chosen[0].plan.budget,
        "num_docs": sum(len(c.selection.doc_N) for c in chosen),
        "num_tokens": sum(c.selection.num_tokens for c in chosen),
        "ranges": [part for c in chosen for part in c.selection.ranges],
        "cursors": chosen[-1].selection.cursors.to_json(),
    }
    write_json(folder.plan, plan)


def read_plan(path: Path, store_fingerprint: str) -> dict[str, Any]:
    """Read a plan.

    Raises DataError when the file is no plan and, with both fingerprints, when it is of another
    store.
    """
    plan: dict[str, Any] = read_json(path)
    flaw = _flaw_of_plan(plan)
    if flaw:
        raise DataError(
            f"{path} is no plan.json: {flaw}. Give one that `mads select` or `mads train` wrote."
        )
    if plan["store"] != store_fingerprint:
        raise DataError(
            f"{path} was made with another store: found {plan['store'][:16]}, expected "
            f"{store_fingerprint[:16]}. Give the store that the run was trained on."
        )
    return plan


def _flaw_of_plan(plan: object) -> str:
    """Return what keeps a JSON value from being a plan, or an empty text."""
    kinds: dict[str, type] = {"store": str, "seed": int, "ranges": list, "cursors": dict}
    flaw = _flaw_of_object(plan, kinds)
    if flaw or not isinstance(plan, dict):
        return flaw
    whole = ("cell", "uses", "start_row", "stop_row")
    for i, part in enumerate(plan["ranges"]):
        flaw = _flaw_of_object(part, {**dict.fromkeys(whole, int), "score": float})
        if flaw:
            return f"in ranges[{i}], {flaw}"
    columns = ("passes", "row", "tokens")
    flaw = _flaw_of_object(plan["cursors"], dict.fromkeys(columns, list))
    if flaw:
        return f"in cursors, {flaw}"
    for name in columns:
        if not all(_is_a(value, int) for value in plan["cursors"][name]):
            return f"cursors.{name} does not hold whole numbers only"
    sizes = [len(plan["cursors"][name]) for name in columns]
    return "" if len(set(sizes)) == 1 else f"the cursors' lengths differ: {sizes}"


def _flaw_of_object(value: object, kinds: Mapping[str, type]) -> str:
    """Return which key of a JSON object is missing or of another kind, or an empty text."""
    if not isinstance(value, dict):
        return f"found a {type(value).__name__}, expected an object with {', '.join(kinds)}"
    for name, kind in kinds.items():
        if name not in value:
            return f"it has no {name!r}"
        if not _is_a(value[name], kind):
            wanted = "finite number" if kind is float else kind.__name__
            return f"{name!r} holds a {type(value[name]).__name__}, expected a {wanted}"
    return ""


def _is_a(value: object, kind: type) -> bool:
    """Return whether a JSON value is of a kind; a whole number is a float too, if finite."""
    if kind is float:
        return _is_a(value, int) or (isinstance(value, float) and math.isfinite(value))
    return type(value) is kind


def plan_cursors(plan: dict[str, Any]) -> Cursors:
    """Return the cursors after a plan."""
    return Cursors.from_json(plan["cursors"])


def console_to_json(state: ConsoleState) -> dict[str, Any]:
    """Return a console state as JSON values, keyed by name."""
    return {
        "round": state.round,
        "theta": dict(state.theta),
        "weights": {agent: dict(values) for agent, values in state.weights.items()},
    }


def read_console(path: Path) -> ConsoleState:
    """Read a console state; raises DataError, with the place, for a file that is not one."""
    value = read_json(path)
    flaw = _flaw_of_object(value, {"round": int, "theta": dict, "weights": dict})
    if not flaw and value["round"] < 0:
        flaw = f"'round' is {value['round']}, expected 0 or more"
    if flaw:
        raise DataError(
            f"{path} is not a console state: {flaw}. Give a console.json with round, theta and "
            "weights, as `mads train` writes them."
        )
    return ConsoleState(
        round=value["round"],
        weights={
            agent: _numbers(path, f"weights.{agent}", table)
            for agent, table in value["weights"].items()
        },
        theta=_numbers(path, "theta", value["theta"]),
    )


def _numbers(path: Path, place: str, table: object) -> dict[str, float]:
    """Return a table of finite numbers; raises DataError, with the place, for anything else."""
    if not isinstance(table, dict):
        found = type(table).__name__
        raise DataError(
            f"{path} is not a console state: {place} holds a {found}, expected an object."
        )
    for name, number in table.items():
        if not _is_a(number, float) or abs(number) > LARGEST:
            shown = json.dumps(number, ensure_ascii=False)[:40]
            raise DataError(
                f"{path} is not a console state: {place}.{name} is {shown}, expected a number "
                f"from {-LARGEST:g} to {LARGEST:g}."
            )
    return {name: float(number) for name, number in table.items()}


def write_tokens(store: Store, doc_N: NDArray[np.uint64], out: Path, seed: int) -> None:
    """Write the documents' tokens as one Megatron indexed data set, tokens.bin and tokens.idx.

    The documents stand in a seeded order, so that a trainer that reads from the front gets a mix.
    """
    with TokenWriter(out / TOKENS[0], out / TOKENS[1], store.tokenizer.vocab_size) as writer:
        for doc in doc_N[shuffled(doc_N, derive(seed, "order"))].tolist():
            reader, row = store.tokens(doc)
            writer.add(reader.row(row))


def write_texts(
    store: Store, doc_N: NDArray[np.uint64], out: Path, on_progress: Callable[[int, int], None]
) -> list[Path]:
    """Write the selected rows as they stand in the corpus, one jsonl.zst per corpus file.

    A document keeps its place among its file's rows. Raises DataError when a corpus file is gone
    or has changed since ``mads annotate``.
    """
    shard_N = (doc_N >> np.uint64(ROW_BITS)).astype(np.int64)
    row_N = (doc_N & np.uint64((1 << ROW_BITS) - 1)).astype(np.int64)
    first = np.array([shard.first_row for shard in store.draft.shards], np.int64)
    file_of = np.array([shard.file for shard in store.draft.shards], np.int64)
    file_N, row_N = file_of[shard_N], row_N + first[shard_N]
    row_format = RowFormat(max_doc_bytes=store.draft.corpus["max_doc_bytes"])
    written = []
    files = np.unique(file_N).tolist()
    for done, number in enumerate(files):
        source = store.draft.files[number]
        path = Path(source.path)
        if not path.is_file() or path.stat().st_size != source.size:
            raise DataError(
                f"{path} is gone or has changed since the store was made (expected "
                f"{source.size} bytes), so its texts cannot be written."
            )
        name = path.name.split(".")[0]
        target = out / f"{number:05d}-{name}.jsonl.zst"
        rows = np.sort(row_N[file_N == number]).tolist()
        with (
            atomic_path(target) as partial,
            pa.OSFile(str(partial), "wb") as raw,
            pa.CompressedOutputStream(raw, "zstd") as stream,
        ):
            for line in raw_lines(path, rows, row_format.max_line_bytes):
                stream.write(line + b"\n")
        written.append(target)
        on_progress(done + 1, len(files))
    return written
