"""Files appear whole or not at all, one writer at a time; names of a store and a run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import mads
from mads.errors import DataError, UsageError
from mads.files import PARTIAL, atomic_path, exclusive, publish, read_json, write_json
from mads.layout import RunDir, StoreDir
from mads.provenance import provenance
from mads.run.records import Metrics


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with atomic_path(path) as partial:
        partial.write_text("one")
        assert not path.exists()
        assert partial.parent == path.parent
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_no_leftover(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with atomic_path(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_leftover_of_a_killed_process_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    path.with_name(path.name + PARTIAL).write_text("a much longer text than the new one")
    write_json(path, [1])
    assert path.read_text() == "[\n 1\n]\n"


def test_a_folder_is_published_whole_in_place_of_the_old_one(tmp_path: Path) -> None:
    old, new = tmp_path / "folder", tmp_path / "folder.partial"
    for folder, name in ((old, "old"), (new, "new")):
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / name).write_text(name)
    publish(new, old)
    assert not new.exists()
    assert [p.name for p in (old / "inner").iterdir()] == ["new"]


def test_json_refuses_nan_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"ä": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert read_json(path) == {"ä": 1}


def test_json_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    with pytest.raises(DataError, match=r"value\.json does not exist\."):
        read_json(path)
    for content in (b'{"a": ', b"\xff"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"value\.json cannot be read as JSON: "):
            read_json(path)


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b"
    with exclusive(root):
        message = re.escape(f"{root} is being written by another mads process. Wait for it")
        with pytest.raises(DataError, match=message), exclusive(root):
            pass
    with exclusive(root):
        assert root.is_dir()


def test_a_file_is_no_folder_to_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = r"file is a file, not a folder\. Give another --out\."
    with pytest.raises(UsageError, match=message), exclusive(tmp_path / "file"):
        pass


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
        store.cells,
        store.order,
    ]
    assert [str(name) for name in names] == [
        "s/corpus.json",
        "s/annotate.json",
        "s/tokenizer",
        "s/documents/shard-00000.parquet",
        "s/tokens/shard-00001.bin",
        "s/tokens/shard-99999.idx",
        "s/memories/topic/shard-100000.parquet",
        "s/index/cells.parquet",
        "s/index/order.parquet",
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


def test_metrics_survive_half_a_line_and_are_cut(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl")
    assert metrics.read() == []
    assert metrics.find("step") is None
    for step in range(4):
        metrics.write({"kind": "step", "step": step})
    metrics.write({"kind": "end", "step": 4})
    with (tmp_path / "metrics.jsonl").open("a") as handle:
        handle.write('{"kind": "st')
    assert [record["step"] for record in metrics.read()] == [0, 1, 2, 3, 4]
    assert metrics.find("step") == {"kind": "step", "step": 3}
    metrics.cut(2, keep_end=True)
    assert [record["step"] for record in metrics.read()] == [0, 1, 4]
    metrics.cut(2, keep_end=False)
    metrics.write({"kind": "step", "step": 2})
    metrics.sync()
    assert [record["step"] for record in metrics.read()] == [0, 1, 2]


def test_provenance_names_versions_machine_and_facts() -> None:
    facts = provenance(store="abc")
    assert facts["mads"] == mads.__version__
    assert facts["store"] == "abc"
    assert set(facts["packages"]) >= {"torch", "pyarrow", "duckdb"}
    assert json.loads(json.dumps(facts)) == facts
