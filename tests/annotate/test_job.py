"""A job does what its shards lack, wherever it runs, and what it wrote is finished work."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
from annotate.test_annotate import content
from toys import MakeRecipe

from mads.annotate.cost import DOCUMENTS
from mads.annotate.job import Job, missing_parts
from mads.layout import StoreDir
from mads.store.store import Store


@pytest.fixture
def store(toy_store: Path, tmp_path: Path) -> StoreDir:
    shutil.copytree(toy_store, tmp_path / "store")
    return StoreDir(tmp_path / "store")


def test_a_job_can_be_sent_to_another_process(
    store: StoreDir, toy_store: Path, toy_recipe: MakeRecipe
) -> None:
    shutil.rmtree(store.memory("quality"))
    store.tokens_idx(1).unlink()
    spec = Store(toy_store).spec
    sent = pickle.loads(pickle.dumps(Job(store, spec, toy_recipe().agents)))
    rows: list[int] = []
    sent.run((0, 1, 2), rows.append)
    assert sum(rows) == 300
    assert content(store.root) == content(toy_store)


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("documents/shard-00001.parquet", [DOCUMENTS]),
        ("tokens/shard-00001.bin", [DOCUMENTS]),
        ("tokens/shard-00001.sum", [DOCUMENTS]),
        ("memories/domain/shard-00001.parquet", ["domain"]),
    ],
)
def test_what_is_gone_or_of_another_shard_is_missing(
    store: StoreDir, toy_store: Path, name: str, lacks: list[str]
) -> None:
    spec = Store(toy_store).spec
    assert missing_parts(store, spec, 1) == []
    path = store.root / name
    path.unlink()
    assert missing_parts(store, spec, 1) == lacks
    shutil.copy(path.with_name(f"shard-00002{path.suffix}"), path)
    # Another shard's tokens are found out by their checksums only when they are read.
    assert missing_parts(store, spec, 1) == ([] if path.suffix == ".bin" else lacks)


def test_a_finished_shard_is_left_alone(
    store: StoreDir, toy_store: Path, toy_recipe: MakeRecipe
) -> None:
    times = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    Job(store, Store(toy_store).spec, toy_recipe().agents).run((0, 1, 2), lambda _: None)
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == times
