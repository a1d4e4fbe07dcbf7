"""Exported texts: the corpus's files, names, schemas and bytes, less what is not selected."""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toys import MakeRecipe

from mads.annotate.annotate import annotate
from mads.config import Recipe
from mads.errors import DataError
from mads.export.texts import (
    GROUP_ROWS,
    corpus_path,
    flag,
    relative_path,
    text_paths,
    write_texts,
)
from mads.store.store import Store

AGENT = {"backend": "column", "field": "kind", "categories": ["a", "b"]}


@pytest.fixture(scope="module")
def recipe(toy_recipe: MakeRecipe) -> Recipe:
    return toy_recipe(agents={"kind": AGENT}, corpus={"workers": 1, "shard_docs": 40})


def lines(count: int, name: str) -> list[bytes]:
    """Lines with spaces, escapes and keys in any order, which no writer would give back."""
    rng = random.Random(name)
    return [
        b'{ "kind": "%s",  "text":"%s \\u00e9 %d"%s}'
        % (rng.choice([b"a", b"b"]), name.encode(), i, b" " * rng.randrange(3))
        for i in range(count)
    ]


def rich_table(count: int) -> pa.Table:
    """A table of many types, with metadata of the schema and of a field."""
    kinds = ["ab"[i % 2] for i in range(count)]
    prices = [decimal.Decimal(i).scaleb(-2) for i in range(count)]
    columns = {
        "text": pa.array([f"row {i}" for i in range(count)], pa.large_string()),
        "kind": pa.array(kinds).dictionary_encode(),
        "when": pa.array([i * 1_000_000_007 for i in range(count)], pa.timestamp("ns", "UTC")),
        "price": pa.array(prices, pa.decimal128(9, 2)),
        "tags": pa.array([[str(j) for j in range(i % 3)] or None for i in range(count)]),
        "meta": pa.array([{"a": i, "b": None if i % 2 else {"c": 0.5 * i}} for i in range(count)]),
        "map": pa.array([[("k", i)] for i in range(count)], pa.map_(pa.string(), pa.int8())),
        "raw": pa.array([bytes([i % 256, 255]) for i in range(count)], pa.binary()),
        "day": pa.array([datetime.date(2020, 1, 1)] * count),
        "none": pa.nulls(count, pa.int16()),
        "id": pa.array(range(count), pa.uint64()),
    }
    table = pa.table(columns)
    field = pa.field("id", pa.uint64(), nullable=False, metadata={"unit": "row"})
    schema = table.schema.set(len(columns) - 1, field).with_metadata({"made by": "a test"})
    return table.cast(schema)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> Path:
    """A corpus of all formats, in folders, with names that collide when a suffix changes."""
    root = tmp_path_factory.mktemp("mixed")
    corpus = root / "corpus"
    (corpus / "deep" / "er").mkdir(parents=True)
    (corpus / "x.jsonl").write_bytes(b"\n".join(lines(50, "x")) + b"\n")
    (corpus / "x.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines(30, "gz"))))
    with pa.output_stream(str(corpus / "deep" / "y.jsonl.zst"), compression="zstd") as stream:
        stream.write(b"\n".join(lines(45, "zst")) + b"\n")
    pq.write_table(
        rich_table(90), corpus / "deep" / "er" / "z.parquet", row_group_size=17, compression="gzip"
    )
    pq.write_table(rich_table(10), corpus / "x.parquet")
    annotate([corpus], root / "store", recipe, lambda *_: None)
    return root


def docs_of(store: Store, wanted: dict[str, list[int]]) -> np.ndarray:
    """Return documents given as file -> rows, in an order that is not the corpus's."""
    docs = []
    names = [file.path for file in store.spec.files]
    for name, rows in wanted.items():
        number = names.index(name)
        docs += [store.document_at(number, row) for row in rows]
    return np.array(docs[::-1], np.uint64)


def read_lines(path: Path) -> list[bytes]:
    with pa.input_stream(str(path), compression="zstd") as stream:
        whole: bytes = stream.read()
    assert whole.endswith(b"\n")
    return whole[:-1].split(b"\n")


def test_a_mixed_corpus_comes_back_in_its_layout(mixed: Path, tmp_path: Path) -> None:
    wanted = {
        "x.jsonl": [0, 3, 41, 49],
        "x.jsonl.gz": [29, 2],
        "deep/y.jsonl.zst": [44],
        "deep/er/z.parquet": [0, 16, 17, 50, 51, 89],
    }
    store, told = Store(mixed / "store"), []
    out = tmp_path / "texts"
    write_texts(
        store,
        docs_of(store, wanted),
        mixed / "corpus",
        out,
        lambda done, total: told.append((done, total)),
    )
    files = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert files == ["deep/er/z.parquet", "deep/y.jsonl.zst", "x-2.jsonl.zst", "x.jsonl.zst"]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert read_lines(out / "x.jsonl.zst") == [lines(50, "x")[i] for i in (0, 3, 41, 49)]
    assert read_lines(out / "x-2.jsonl.zst") == [lines(30, "gz")[i] for i in (2, 29)]
    assert read_lines(out / "deep/y.jsonl.zst") == [lines(45, "zst")[44]]
    found = pq.read_table(out / "deep/er/z.parquet")
    expected = pq.read_table(mixed / "corpus/deep/er/z.parquet")
    assert found.schema.equals(expected.schema, check_metadata=True)
    expected = expected.take(pa.array(sorted(wanted["deep/er/z.parquet"])))
    for name in expected.column_names:
        pair = [table[name].combine_chunks() for table in (found, expected)]
        if name == "kind":  # whose dictionaries may differ
            pair = [column.cast(pa.string()) for column in pair]
        assert pair[0].equals(pair[1]), name
    metadata = pq.read_metadata(out / "deep/er/z.parquet")
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert metadata.schema.equals(pq.read_metadata(mixed / "corpus/deep/er/z.parquet").schema)


def test_an_export_is_a_corpus_again(mixed: Path, tmp_path: Path, recipe: Recipe) -> None:
    store = Store(mixed / "store")
    docs = store.order.docs(np.arange(store.cells.num_docs_C.sum()))
    write_texts(store, docs, mixed / "corpus", tmp_path / "texts", lambda *_: None)
    again = annotate([tmp_path / "texts"], tmp_path / "again", recipe, lambda *_: None)
    assert again.rows == len(docs)
    assert again.tokens > 0
    assert {p.suffix for p in (tmp_path / "texts").rglob("*.*")} == {".zst", ".parquet"}


def test_text_that_is_not_utf_8_and_many_row_groups(tmp_path: Path, toy_recipe: MakeRecipe) -> None:
    recipe = toy_recipe(agents={"kind": AGENT}, corpus={"workers": 1, "shard_docs": 20_000})
    count = GROUP_ROWS + 100
    kinds = pa.array(["a"] * count)
    texts = pa.array([b"caf\xe9"] + [b"t%d" % i for i in range(1, count)]).view(pa.string())
    source = tmp_path / "corpus" / "one.parquet"
    source.parent.mkdir()
    pq.write_table(pa.table({"text": texts, "kind": kinds}), source)
    annotate([source], tmp_path / "store", recipe, lambda *_: None)
    store = Store(tmp_path / "store")
    docs = docs_of(store, {"one.parquet": list(range(count))})
    (path,) = write_texts(store, docs, source.parent, tmp_path / "texts", lambda *_: None)
    assert path == tmp_path / "texts" / "one.parquet"
    metadata = pq.read_metadata(path)
    assert metadata.num_rows == count
    assert 2 <= metadata.num_row_groups <= 3
    found = pq.read_table(path)["text"].cast(pa.binary()).to_pylist()
    assert found == texts.cast(pa.binary()).to_pylist()


class File:
    def __init__(self, path: str) -> None:
        self.path = path


def fake_store(*paths: str) -> Any:
    """A store of which only the names of its files are known."""

    class Fake:
        class spec:  # noqa: N801
            root = "/a/b c"
            files = tuple(map(File, paths))

        class dir:  # noqa: N801, A001
            manifest = "corpus.json"

    return Fake()


def test_names_stay_below_the_folder(mixed: Path) -> None:
    """Whatever `..` a path has: what is written lies below the export's folder."""
    store = Store(mixed / "store")
    assert flag(store) == f"--corpus {mixed / 'corpus'}"
    assert [str(p) for p in text_paths(store)] == [
        "deep/er/z.parquet",
        "deep/y.jsonl.zst",
        "x.jsonl.zst",
        "x-2.jsonl.zst",
        "x.parquet",
    ]
    fake = fake_store("b/../c/x.jsonl", "b/y.parquet", "b/y.jsonl")
    assert [str(p) for p in text_paths(fake)] == ["c/x.jsonl.zst", "b/y.parquet", "b/y.jsonl.zst"]
    assert flag(fake) == "--corpus '/a/b c'"


def test_a_file_and_a_folder_whose_names_collide(tmp_path: Path, recipe: Recipe) -> None:
    """x.jsonl comes back as x.jsonl.zst, which is the name of a folder; names stay in growth."""
    corpus = tmp_path / "corpus"
    for name in ("x.jsonl", "x.jsonl.zst/y.jsonl", "x.jsonl.zst/d/z.jsonl", "w.jsonl.zst/v.jsonl"):
        path = corpus / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\n".join(lines(5, name)))
    annotate([corpus], tmp_path / "store", recipe, lambda *_: None)
    store = Store(tmp_path / "store")
    before = {f.path: str(p) for f, p in zip(store.spec.files, text_paths(store), strict=True)}
    assert before == {
        "w.jsonl.zst/v.jsonl": "w.jsonl.zst/v.jsonl.zst",
        "x.jsonl": "x.jsonl.zst",
        "x.jsonl.zst/d/z.jsonl": "x.jsonl.zst-2/d/z.jsonl.zst",
        "x.jsonl.zst/y.jsonl": "x.jsonl.zst-2/y.jsonl.zst",
    }
    docs = docs_of(store, {name: [0, 4] for name in before})
    out = tmp_path / "texts"
    write_texts(store, docs, corpus, out, lambda *_: None)
    for name, target in before.items():
        assert read_lines(out / target) == [lines(5, name)[i] for i in (0, 4)]
    (corpus / "w.jsonl").write_bytes(b"\n".join(lines(5, "w")))
    annotate([corpus], tmp_path / "store", recipe, lambda *_: None)
    grown = Store(tmp_path / "store")
    after = {f.path: str(p) for f, p in zip(grown.spec.files, text_paths(grown), strict=True)}
    assert after == {**before, "w.jsonl": "w-2.jsonl.zst"}


@pytest.mark.parametrize("path", ["../secret.jsonl", "a/../../b.jsonl", "..", ".", "/etc/passwd"])
def test_a_manifest_that_leads_out_of_the_corpus_is_refused(path: str, tmp_path: Path) -> None:
    fake = fake_store("fine.jsonl", path)
    message = r"corpus\.json names the corpus file .*, which leads out of the corpus\. Run `mads"
    for call in (
        lambda: relative_path(fake, 1),
        lambda: corpus_path(fake, 1, tmp_path),
        lambda: text_paths(fake),
    ):
        with pytest.raises(DataError, match=message):
            call()


def copied(mixed: Path, tmp_path: Path) -> tuple[Store, Path, Path]:
    """Return the store, a copy of its corpus elsewhere, and one file of the copy."""
    root = tmp_path / "copy"
    shutil.copytree(mixed / "corpus", root)
    return Store(mixed / "store"), root, root / "x.jsonl"


def test_texts_are_read_below_the_root_that_is_given(mixed: Path, tmp_path: Path) -> None:
    """A copy elsewhere will do; a link inside is followed, one that leads out is not."""
    store, root, path = copied(mixed, tmp_path)
    docs = docs_of(store, {"x.jsonl": [7]})
    (found,) = write_texts(store, docs, root, tmp_path / "1", lambda *_: None)
    assert read_lines(found) == [lines(50, "x")[7]]
    path.rename(root / "elsewhere")
    path.symlink_to("elsewhere")
    write_texts(store, docs, root, tmp_path / "2", lambda *_: None)
    path.unlink()
    path.symlink_to(mixed / "corpus" / "x.jsonl")
    message = r"copy/x\.jsonl leads out of .*copy, to .*corpus/x\.jsonl\. Give a --corpus that"
    with pytest.raises(DataError, match=message):
        write_texts(store, docs, root, tmp_path / "3", lambda *_: None)
    path.unlink()
    path.symlink_to("x.jsonl")
    with pytest.raises(DataError, match=r"x\.jsonl cannot be opened, so its texts cannot be"):
        write_texts(store, docs, root, tmp_path / "4", lambda *_: None)
    path.unlink()
    message = r"x\.jsonl cannot be opened.*: No such file or directory\. Give the folder .*--corpus"
    with pytest.raises(DataError, match=message):
        write_texts(store, docs, root, tmp_path / "5", lambda *_: None)


def test_a_corpus_file_of_another_content_is_refused(mixed: Path, tmp_path: Path) -> None:
    store, root, path = copied(mixed, tmp_path)
    docs = docs_of(store, {"x.jsonl": [7]})
    data = path.read_bytes()
    path.write_bytes(data.replace(b"x \\u00e9 7", b"x \\u00e8 7"))
    message = (
        r"x\.jsonl has changed since the store was made \(its sha256 is \w{16}, expected \w{16}\)"
    )
    with pytest.raises(DataError, match=message):
        write_texts(store, docs, root, tmp_path / "1", lambda *_: None)
    path.write_bytes(data + b"\n")
    message = rf"\(it has {len(data) + 1} bytes, expected {len(data)}\).*Put the file back"
    with pytest.raises(DataError, match=message):
        write_texts(store, docs, root, tmp_path / "2", lambda *_: None)


def test_the_lines_are_json_still(mixed: Path, tmp_path: Path) -> None:
    store = Store(mixed / "store")
    docs = docs_of(store, {"x.jsonl": list(range(50))})
    (path,) = write_texts(store, docs, mixed / "corpus", tmp_path, lambda *_: None)
    assert [json.loads(line)["text"] for line in read_lines(path)] == [
        f"x é {i}" for i in range(50)
    ]
