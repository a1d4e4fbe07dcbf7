"""Names of a store and a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from mads.errors import DataError
from mads.files import write_json
from mads.layout import RunDir, StoreDir


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


def test_the_last_round_is_the_newest_complete_one(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    with pytest.raises(DataError, match=r"holds no complete round \(no rounds/\*/plan\.json\)"):
        run.last_round()
    for number in (0, 9, 10):
        write_json(run.round(number).plan, {})
    write_json(run.round(11).console, {})
    assert run.last_round() == 10
    assert run.checkpoint(3000) == tmp_path / "checkpoints" / "step-00003000"
