"""An index whose building was killed, in any step: it goes on, and the result is the same."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from store.test_build import KEYS, SMALL, documents, oracle, split, write_parts

from mads.errors import DataError
from mads.index import order
from mads.index.buckets import Bucket, Buckets
from mads.layout import IndexDir, StoreDir
from mads.store import build as module
from mads.store.build import build_index
from mads.store.spec import StoreSpec


def order_of(store: StoreDir) -> list[dict[str, int]]:
    rows: list[dict[str, int]] = pq.read_table(store.index(1).order).select(KEYS).to_pylist()
    return rows


def build_killed(
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    store: StoreDir,
    spec: StoreSpec,
    heard: Callable[[int], None] = lambda _: None,
) -> None:
    """Build an index, killed where a step of it begins."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, step, killed)
        with pytest.raises(KeyboardInterrupt):
            build_index(store, spec, store.index(1), SMALL, heard)


def test_leftovers_of_a_killed_call_are_harmless(tmp_path: Path) -> None:
    shards = [documents(300, seed=6)]
    store, spec = write_parts(tmp_path, shards)
    buckets = tmp_path / "index" / "0001" / "buckets.partial"
    buckets.mkdir(parents=True)
    for number in range(5):
        (buckets / f"{number:06d}").write_bytes(b"\x01" * 100)
    (tmp_path / "index" / "0001" / "order.parquet.partial").write_bytes(b"half")
    build_index(store, spec, store.index(1), SMALL, lambda _: None)
    assert order_of(store) == oracle(shards, spec.seed)[1]
    assert not buckets.exists()


def test_a_killed_call_goes_on_from_its_buckets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = split(documents(900, seed=6), 400, 500)
    whole, spec = write_parts(tmp_path / "whole", shards)
    build_index(whole, spec, whole.index(1), SMALL, lambda _: None)
    store, spec = write_parts(tmp_path / "killed", shards)

    build_killed(monkeypatch, "write_order", store, spec)
    seen: list[int] = []
    # killed once more, after the order
    build_killed(monkeypatch, "_write_cells", store, spec, seen.append)
    build_index(store, spec, store.index(1), SMALL, seen.append)
    assert seen == []  # no memory was read again
    assert store.index(1).order.read_bytes() == whole.index(1).order.read_bytes()
    assert store.index(1).cells.read_bytes() == whole.index(1).cells.read_bytes()
    assert not list((tmp_path / "killed" / "index").rglob("*.partial"))


@pytest.mark.parametrize("note_rows", [1, 250, 10_000])
def test_a_call_killed_while_it_fills_goes_on_from_its_last_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note_rows: int
) -> None:
    monkeypatch.setattr(module, "NOTE_ROWS", note_rows)
    shards = split(documents(4000, seed=6), *[500] * 8)
    whole, spec = write_parts(tmp_path / "whole", shards)
    build_index(whole, spec, whole.index(1), SMALL, lambda _: None)
    store, spec = write_parts(tmp_path / "killed", shards)
    add = Buckets.add
    calls: list[int] = []

    def killed(self: Buckets, bucket_N: Any, record_N: Any, num: int) -> None:
        add(self, bucket_N, record_N, num)  # what was added after the last note is cut off again
        calls.append(len(record_N))
        if len(calls) in (3, 4, 7):
            raise KeyboardInterrupt

    handled: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(Buckets, "add", killed)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                build_index(store, spec, store.index(1), SMALL, handled.append)
        build_index(store, spec, store.index(1), SMALL, handled.append)
    assert store.index(1).order.read_bytes() == whole.index(1).order.read_bytes()
    assert store.index(1).cells.read_bytes() == whole.index(1).cells.read_bytes()
    assert {path.name for path in store.index(1).order.parent.iterdir()} == {
        *("cells.parquet", "content.json", "order.parquet", "order.sum")
    }
    # Counted once; the shards added again are those that no note covered.
    assert len(calls) == {1: 11, 250: 11, 10_000: 15}[note_rows]


KILLED = """
import os, signal, sys
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
from store.test_build import SMALL, documents, split, write_parts
from mads.store import build
from mads.index.buckets import Buckets
build.NOTE_ROWS, left = 1, int(sys.argv[3])
def killing(work):
    def run(*arguments):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*arguments)
    return run
for name in ("begin", "add", "note", "remove"):
    setattr(Buckets, name, killing(getattr(Buckets, name)))
build.write_order = killing(build.write_order)
root = Path(sys.argv[2])
store, spec = write_parts(root, split(documents(1500, seed=6), 500, 500, 500))
build.build_index(store, spec, store.index(1), SMALL, lambda rows: None)
"""


def test_killed_again_and_again_the_index_is_the_same(tmp_path: Path) -> None:
    shards = split(documents(1500, seed=6), 500, 500, 500)
    whole, spec = write_parts(tmp_path / "whole", shards)
    build_index(whole, spec, whole.index(1), SMALL, lambda _: None)
    root, tests = tmp_path / "killed", Path(__file__).parents[1]
    for more in (2, 1, 2, 3):  # each call comes a step further than the one before
        command = [sys.executable, "-c", KILLED, str(tests), str(root), str(more)]
        assert subprocess.run(command).returncode == -signal.SIGKILL
    build_index(StoreDir(root), spec, StoreDir(root).index(1), SMALL, lambda _: None)
    for name in ("order", "cells"):
        assert getattr(StoreDir(root).index(1), name).read_bytes() == (
            getattr(whole.index(1), name).read_bytes()
        )


@pytest.mark.parametrize("name", ["counts.json", "filled.json"])
@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"shards": 2, "sizes": [1, 2]}', '{"shards": 1, "sizes": 5}', "[[1], 2]"],
)
def test_damaged_notes_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str
) -> None:
    shards = split(documents(900, seed=6), 400, 500)
    store, spec = write_parts(tmp_path, shards)

    build_killed(monkeypatch, "write_order", store, spec)
    (store.index(1).order.parent / "buckets.partial" / name).write_text(content)
    build_index(store, spec, store.index(1), SMALL, lambda _: None)
    assert order_of(store) == oracle(shards, spec.seed)[1]


def test_a_flipped_bit_in_what_a_killed_call_left_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = split(documents(900, seed=6), 400, 500)
    whole, spec = write_parts(tmp_path / "whole", shards)
    build_index(whole, spec, whole.index(1), SMALL, lambda _: None)
    for name in ("000000", "counts.json", "filled.json"):
        for place in (0.1, 0.5, 0.9):
            store, spec = write_parts(tmp_path / f"{name}-{place}", shards)
            build_killed(monkeypatch, "write_order", store, spec)
            path = store.index(1).buckets / name
            content = bytearray(path.read_bytes())
            content[int(place * len(content))] ^= 1
            path.write_bytes(content)
            build_index(store, spec, store.index(1), SMALL, lambda _: None)
            assert store.index(1).order.read_bytes() == whole.index(1).order.read_bytes()
            assert store.index(1).cells.read_bytes() == whole.index(1).cells.read_bytes()


def test_counts_that_were_changed_are_counted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [documents(300, seed=6)]
    store, spec = write_parts(tmp_path, shards)
    build_killed(monkeypatch, "write_order", store, spec)
    path = store.index(1).buckets / "counts.json"
    value = json.loads(path.read_text())
    value["counts"]["num_docs_C"][0] += 8
    path.write_text(json.dumps(value))
    build_index(store, spec, store.index(1), SMALL, lambda _: None)
    cells = pq.read_table(store.index(1).cells).to_pylist()
    assert cells == oracle(shards, spec.seed)[0]


def test_a_bucket_that_changes_before_it_is_sorted_is_named_and_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = split(documents(900, seed=6), 400, 500)
    store, spec = write_parts(tmp_path, shards)
    write = order.write_order

    def damaging(buckets: list[Bucket], index: IndexDir) -> None:
        content = bytearray(buckets[0].path.read_bytes())
        content[9] ^= 1
        buckets[0].path.write_bytes(content)
        write(buckets, index)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_order", damaging)
        with pytest.raises(DataError, match=r"buckets\.partial/000000 was changed while"):
            build_index(store, spec, store.index(1), SMALL, lambda _: None)
    assert not store.index(1).order.exists()
    build_index(store, spec, store.index(1), SMALL, lambda _: None)
    assert order_of(store) == oracle(shards, spec.seed)[1]


def test_buckets_of_other_memories_are_filled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [documents(300, seed=6)]
    store, spec = write_parts(tmp_path, shards)

    build_killed(monkeypatch, "write_order", store, replace(spec, seed=9))
    build_index(store, spec, store.index(1), SMALL, lambda _: None)
    assert order_of(store) == oracle(shards, spec.seed)[1]


def test_buckets_of_a_memory_that_was_made_anew_are_filled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, spec = write_parts(tmp_path, [documents(300, seed=6)])

    build_killed(monkeypatch, "write_order", store, spec)
    shards = [documents(300, seed=7)]
    write_parts(tmp_path, shards)
    build_index(store, spec, store.index(1), SMALL, lambda _: None)
    assert order_of(store) == oracle(shards, spec.seed)[1]
