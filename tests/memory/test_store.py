"""A store is read only when it is complete, undamaged and of this version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mads.errors import DataError, UsageError
from mads.memory.store import Store, read_table
from mads.run_dir import StoreDir
from mads.types import doc_id


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
        ("[]", r"corpus\.json has format 'list'; this version of mads reads 1\."),
        ("{}", r"corpus\.json has format None; this version of mads reads 1\."),
        ('{"format": 2}', r"corpus\.json has format 2; this version of mads reads 1\."),
        ('{"format": 1, "files": 3}', r"corpus\.json is damaged: "),
        ('{"format": 1}', r"corpus\.json is damaged: KeyError"),
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
    advice = "Delete it, if it is there, and run the same `mads annotate` again; it rebuilds"
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


def test_rows_of_the_order_are_found_over_row_groups(copy: StoreDir) -> None:
    table = pq.read_table(copy.order)
    pq.write_table(table, copy.order, row_group_size=64)
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
    pq.write_table(pq.read_table(copy.cells).drop_columns(["quality"]), copy.cells)
    with pytest.raises(DataError, match=r"lacks the agents \['quality'\]; run `mads annotate`"):
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
