"""A store is read only when it is complete, undamaged and of this version."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from toys import Document, MakeStore

from mads.errors import DataError, UsageError
from mads.files import read_json
from mads.layout import StoreDir
from mads.store.memory import doc_numbers, write_memory
from mads.store.sealed import read_seal, sealed_writer, write_sealed
from mads.store.store import Store, read_table
from mads.types import Labels, doc_id


@pytest.fixture
def copy(toy_store: Path, tmp_path: Path) -> StoreDir:
    """A copy of the toy store that a test may damage."""
    shutil.copytree(toy_store, tmp_path / "store")
    return StoreDir(tmp_path / "store")


def test_a_store_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none does not exist\. `mads annotate` makes one\."):
        Store(tmp_path / "none")


def test_a_folder_that_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"is not a store: it has no corpus\.json\. Give the folder"
    ):
        Store(tmp_path)


def test_a_store_without_its_manifest(copy: StoreDir) -> None:
    copy.manifest.unlink()
    with pytest.raises(
        DataError, match=r"is not complete: it has no corpus\.json\. Run the same `mads annotate`"
    ):
        Store(copy.root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"corpus\.json cannot be read as JSON: "),
        ("[]", r"corpus\.json has format 'list'; this version of mads reads 2\."),
        ("{}", r"corpus\.json has format None; this version of mads reads 2\."),
        ('{"format": 1}', r"format 1; .* reads 2\. Run `mads annotate` with another --out\."),
        ('{"format": 2, "files": 3}', r"corpus\.json is damaged: "),
        ('{"format": 2}', r"corpus\.json is damaged: KeyError"),
    ],
)
def test_a_manifest_that_cannot_be_used(copy: StoreDir, content: str, message: str) -> None:
    copy.manifest.write_text(content)
    with pytest.raises(DataError, match=message):
        Store(copy.root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"fingerprint": None},
            r"it has no 'fingerprint', or of another type\. Run the same `mads",
        ),
        ({"tokenizer_fingerprint": 3}, "it has no 'tokenizer_fingerprint', or of another type"),
        ({"documents": []}, "it has no 'documents'"),
        ({"index": 3}, "it has no 'index'"),
        ({"content": []}, "it has no 'content'"),
        ({"index": {"cells": 3}}, r"it has no 'index\.docs'"),
        ({"corpus": {"text_field": "text"}}, r"KeyError 'max_doc_bytes'\. Put the file back, or"),
        ({"tokenizer": 3}, "TypeError"),
    ],
)
def test_a_manifest_that_lacks_something(
    copy: StoreDir, change: dict[str, object], message: str
) -> None:
    copy.manifest.write_text(json.dumps(json.loads(copy.manifest.read_text()) | change))
    with pytest.raises(DataError, match=rf"corpus\.json is damaged: {message}"):
        Store(copy.root)


def test_a_missing_or_damaged_index_says_what_to_do(copy: StoreDir) -> None:
    advice = "Delete it, if it is there, and run the same `mads annotate` again; it makes it"
    for content in (b"PAR1", None):
        for path in (copy.order, copy.cells):
            path.unlink(missing_ok=True)
            if content:
                path.write_bytes(content)
        with pytest.raises(DataError, match=rf"order\.parquet cannot be read: .*{advice}"):
            Store(copy.root).order_docs(np.zeros(1, np.int64))
        with pytest.raises(DataError, match=rf"cells\.parquet .*{advice}"):
            _ = Store(copy.root).cells


def test_cells_have_names_counts_and_places(toy_store: Path) -> None:
    cells = Store(toy_store).cells
    assert cells.agents == ("domain", "quality")
    assert cells.categories["domain"] == ("books", "code", "news")
    assert cells.category_CA.shape == (len(cells), 2)
    assert cells.num_docs_C.sum() == 300
    assert cells.first_row_C.tolist() == [0, *np.cumsum(cells.num_docs_C)[:-1]]
    order = pq.read_table(StoreDir(toy_store).order)
    tokens = np.bincount(order["cell"].to_numpy(), order["num_tokens"].to_numpy())
    assert cells.num_tokens_C.tolist() == tokens.tolist()


def seal_anew(store: StoreDir, path: Path) -> None:
    """Make the manifest say what the file's footer says."""
    manifest = read_json(store.manifest)
    manifest["content"][str(path.relative_to(store.root))] = asdict(read_seal(path))
    store.manifest.write_text(json.dumps(manifest))


def test_rows_of_the_order_are_found_over_row_groups(copy: StoreDir) -> None:
    table = pq.read_table(copy.order)
    with sealed_writer(copy.order, table.schema) as writer:
        writer.write_table(table, row_group_size=64)
    seal_anew(copy, copy.order)
    assert pq.read_metadata(copy.order).num_row_groups == 5
    docs = table["doc"].to_numpy()
    rows = np.array([299, 0, 63, 64, 64, 130], np.int64)
    assert Store(copy.root).order_docs(rows).tolist() == docs[rows].tolist()
    assert Store(copy.root).order_docs(np.zeros(0, np.int64)).tolist() == []


def test_tokens_of_a_document(toy_store: Path, toy_documents: list[dict[str, str]]) -> None:
    store = Store(toy_store)
    for number, (shard, row) in {0: (0, 0), 149: (0, 149), 150: (1, 0), 299: (2, 49)}.items():
        reader, found = store.tokens(doc_id(shard, row))
        assert found == row
        *tokens, last = reader.row(found).tolist()
        assert last == store.tokenizer.end_of_text
        assert store.tokenizer.tokenizer.decode(tokens) == toy_documents[number]["text"]


def test_another_tokenizer_is_refused(copy: StoreDir) -> None:
    path = copy.tokenizer / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"truncation": None}, indent=3))
    found = r"is not the tokenizer of this store: found [0-9a-f]{16}, expected [0-9a-f]{16}\."
    with pytest.raises(DataError, match=found):
        _ = Store(copy.root).tokenizer


def test_an_index_without_an_agent_is_refused(copy: StoreDir) -> None:
    write_sealed(copy.cells, pq.read_table(copy.cells).drop_columns(["quality"]))
    seal_anew(copy, copy.cells)
    with pytest.raises(DataError, match=r"lacks the agents \['quality'\]; run `mads annotate`"):
        _ = Store(copy.root).cells


CHANGED = (
    r"is not the file that `mads annotate` wrote: its fingerprint is [0-9a-f]{16}, expected "
    r"[0-9a-f]{16}\. Delete it, if it is there, and run the same `mads annotate` again"
)


@pytest.mark.parametrize("how", ["edited", "exchanged"])
def test_a_memory_that_is_not_the_manifests_is_refused(copy: StoreDir, how: str) -> None:
    labels = Store(copy.root).memory("quality", 1)
    assert (
        labels.category_N.tolist()
        == pq.read_table(copy.memory_shard("quality", 1))["category"].to_pylist()
    )
    path = copy.memory_shard("quality", 1)
    header = Store(copy.root).spec.memory_header("quality")
    if how == "edited":  # by someone who seals it again
        labels = Labels(labels.category_N[::-1], labels.score_N)
        write_memory(path, header, doc_numbers(1, 100), labels)
    else:
        path.write_bytes(copy.memory_shard("quality", 0).read_bytes())
    with pytest.raises(DataError, match=rf"quality/shard-00001\.parquet {CHANGED}"):
        Store(copy.root).memory("quality", 1)


def test_a_table_of_documents_that_is_not_the_manifests_is_refused(copy: StoreDir) -> None:
    assert Store(copy.root).documents(0).num_rows == 150
    copy.documents(0).write_bytes(copy.documents(1).read_bytes())
    with pytest.raises(DataError, match=rf"documents/shard-00000\.parquet {CHANGED}"):
        Store(copy.root).documents(0)


@pytest.mark.parametrize("name", ["order", "cells"])
def test_an_index_that_is_not_the_manifests_is_refused(
    copy: StoreDir, toy_documents: list[Document], make_store: MakeStore, name: str
) -> None:
    other = StoreDir(make_store(toy_documents, seed=1, corpus={"max_doc_bytes": 99}))
    path: Path = getattr(copy, name)
    path.write_bytes(getattr(other, name).read_bytes())
    with pytest.raises(DataError, match=rf"index/{name}\.parquet {CHANGED}"):
        _ = Store(copy.root).cells


def test_a_flipped_bit_in_the_order_is_noticed_where_it_is_read(copy: StoreDir) -> None:
    data = bytearray(copy.order.read_bytes())
    data[60] ^= 1
    copy.order.write_bytes(data)
    store = Store(copy.root)
    _ = store.cells  # reads the order's footer only
    with pytest.raises(DataError, match=r"order\.parquet cannot be read: .*Delete it, if it is"):
        store.order_docs(np.arange(300))


def test_a_manifest_that_does_not_know_a_file(copy: StoreDir) -> None:
    manifest = read_json(copy.manifest)
    del manifest["content"]["index/cells.parquet"]
    copy.manifest.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"it says nothing of index/cells\.parquet\. Run the same"):
        _ = Store(copy.root).cells


def test_a_parquet_file_that_cannot_be_read(tmp_path: Path, toy_store: Path) -> None:
    with pytest.raises(DataError, match=r"x\.parquet does not exist\. Was something deleted\?"):
        read_table(tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"x\.parquet cannot be read as Parquet: "):
        read_table(tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes(StoreDir(toy_store).cells.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"x\.parquet cannot be read as Parquet: "):
        read_table(tmp_path / "x.parquet")
