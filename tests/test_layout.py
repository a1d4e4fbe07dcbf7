"""Names of a store, a run and a comparison."""

from __future__ import annotations

from pathlib import Path

from mads.layout import ComparisonDir, RunDir, StoreDir


def test_names_in_a_store() -> None:
    store = StoreDir(Path("s"))
    names = [
        store.manifest,
        store.spec,
        store.tokenizer,
        store.documents(0),
        store.tokens_bin(1),
        store.tokens_idx(99_999),
        store.memory_shard("topic", 100_000),
        store.index(1).cells,
        store.index(12).order,
    ]
    assert [str(name) for name in names] == [
        "s/corpus.json",
        "s/annotate.json",
        "s/tokenizer",
        "s/documents/shard-00000.parquet",
        "s/tokens/shard-00001.bin",
        "s/tokens/shard-99999.idx",
        "s/memories/topic/shard-100000.parquet",
        "s/index/0001/cells.parquet",
        "s/index/0012/order.parquet",
    ]


def test_the_names_in_a_run(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert run.round(10).plan == tmp_path / "rounds" / "0010" / "plan.json"
    assert run.refresh(4).cells == tmp_path / "generations" / "0004" / "cells.parquet"
    assert run.refresh(4).number == 4
    assert run.checkpoint(3000) == tmp_path / "checkpoints" / "step-00003000"


def test_the_names_in_a_comparison(tmp_path: Path) -> None:
    found = ComparisonDir(tmp_path)
    assert found.arms == tmp_path / "arms.toml"
    assert found.comparison == tmp_path / "comparison.json"
    assert found.recipe("natural") == tmp_path / "natural" / "recipe.toml"
    assert found.run("natural", 3).root == tmp_path / "natural" / "seed-3"
    assert found.log("natural", 3) == tmp_path / "natural" / "seed-3.log"
