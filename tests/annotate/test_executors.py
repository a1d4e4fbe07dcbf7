"""Whoever runs a job: the same store, every row told, the first error raised."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from annotate.test_annotate import NUM_SHARDS, SHARDS, content, run
from toys import Document, MakeRecipe, write_jsonl

from mads.annotate.executors import EXECUTORS
from mads.annotate.job import Job, missing_parts
from mads.errors import DataError
from mads.layout import StoreDir
from mads.store.store import Store


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, toy_corpus: Path, toy_recipe: MakeRecipe
) -> Path:
    out = tmp_path_factory.mktemp("whole") / "store"
    run([toy_corpus], out, toy_recipe(corpus={"workers": 1, **SHARDS}))
    return out


NAMES = [
    pytest.param(name, marks=pytest.mark.skipif(not find_spec("ray"), reason="mads[ray]"))
    if name == "ray"
    else name
    for name in EXECUTORS
]


@pytest.mark.parametrize("name", NAMES)
def test_the_store_is_the_same_whoever_makes_it(
    whole: Path, toy_corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path, name: str
) -> None:
    recipe = toy_recipe(corpus={"workers": 2, "executor": name, **SHARDS})
    run([toy_corpus], tmp_path / "store", recipe)
    assert content(tmp_path / "store") == content(whole)


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_told_and_only_what_is_missing_is_done(
    whole: Path, toy_recipe: MakeRecipe, tmp_path: Path, name: str
) -> None:
    import shutil

    shutil.copytree(whole, tmp_path / "store")
    store, spec = StoreDir(tmp_path / "store"), Store(tmp_path / "store").spec
    store.documents(3).unlink()
    store.memory_shard("quality", 5).unlink()
    lacking = {i: missing_parts(store, spec, i) for i in range(NUM_SHARDS)}
    assert {i: parts for i, parts in lacking.items() if parts} == {
        3: ["documents and tokens"],
        5: ["quality"],
    }
    rows: list[int] = []
    job = Job(store, spec, toy_recipe().agents)
    EXECUTORS[name](job, [(2, 3), (4, 5, 6)], 2, rows.append)
    assert sum(rows) == 2 * SHARDS["shard_docs"]
    assert content(store.root) == content(whole)


@pytest.mark.parametrize("name", NAMES)
def test_an_error_of_a_span_is_raised(
    toy_documents: list[Document], toy_recipe: MakeRecipe, tmp_path: Path, name: str
) -> None:
    write_jsonl(tmp_path / "c.jsonl", [*toy_documents[:20], {"text": "x", "quality": "high"}])
    recipe = toy_recipe(corpus={"workers": 2, "executor": name, **SHARDS})
    with pytest.raises(DataError, match=r"c\.jsonl: agent '\w+': field"):
        run([tmp_path / "c.jsonl"], tmp_path / "store", recipe)


def test_a_job_reads_a_compressed_file_once(
    toy_documents: list[Document],
    toy_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import gzip

    from mads.corpus import streams
    from mads.corpus.readers import records
    from mads.corpus.streams import open_stream

    data = "".join(json.dumps(d) + "\n" for d in toy_documents).encode()
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(data))
    recipe = toy_recipe(corpus={"workers": 1, "executor": "inline", **SHARDS})
    read, opened = 0, open_stream

    class Counted:
        def __init__(self, path: Path) -> None:
            self.stream = opened(path)

        def __enter__(self) -> Counted:
            return self

        def __exit__(self, *_: object) -> None:
            self.stream.__exit__(None, None, None)

        def read(self, length: int) -> bytes:
            nonlocal read
            chunk: bytes = self.stream.read(length)
            read += len(chunk)
            return chunk

    monkeypatch.setattr("mads.annotate.annotate._make_tokenizer", lambda *_: None)
    store = StoreDir(tmp_path / "store")
    from mads.corpus.tokenizer import train_tokenizer

    train_tokenizer(["the river"], 300, store.tokenizer)
    (store.root / "annotate.json").touch()
    store.spec.unlink()
    monkeypatch.setattr(
        records, "open_stream", lambda path, raw=None: opened(path, raw) if raw else Counted(path)
    )
    monkeypatch.setattr(streams, "CHUNK_BYTES", 512)
    for module in ("mads.corpus.look", "mads.annotate.checks"):
        monkeypatch.setattr(f"{module}.HEAD_ROWS", 1, raising=False)
    for path in store.root.iterdir():
        assert path.name == "tokenizer"
    monkeypatch.setattr("mads.annotate.survey.refuse_foreign", lambda _: None)
    result = run([tmp_path / "c.jsonl.gz"], store.root, recipe)
    assert result.new_shards == 38
    head = read - len(data)  # what was looked at before: the first record, and chunk by chunk
    assert 0 <= head <= 8 * 512
