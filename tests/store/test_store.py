"""A store is read only when it is complete, undamaged and of this version."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from toys import Document, MakeStore

from mads.blocks import write_sums
from mads.errors import DataError, UsageError
from mads.files import read_sealed_json, write_sealed_json
from mads.layout import StoreDir
from mads.sealed import read_seal, sealed_writer, write_sealed
from mads.store import store as module
from mads.store.manifest import read_manifest
from mads.store.memory import doc_numbers, write_memory
from mads.store.store import Store
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


FORMAT = r"corpus\.json has format {}; this version of mads reads 3\. Run `mads annotate` with"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"corpus\.json cannot be read as JSON: "),
        ("[]", r"corpus\.json holds a list, expected an object\. Put the file back"),
        ("{}", FORMAT.format("None")),
        ('{"format": 2}', FORMAT.format(2)),
        ('{"format": 3}', r"corpus\.json has no 'sha256': it was changed, or is not mads's own"),
    ],
)
def test_a_manifest_that_cannot_be_used(copy: StoreDir, content: str, message: str) -> None:
    copy.manifest.write_text(content)
    with pytest.raises(DataError, match=message):
        Store(copy.root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer_fingerprint": 3}, r"tokenizer_fingerprint: found 3, expected a text\. Put"),
        ({"vocab_size": -1}, r"vocab_size: found -1, expected 0 to "),
        ({"generation": 7}, r"generation: found 7, expected one of 1\."),
        ({"generations": []}, r"generations: found \[\], expected a section"),
        ({"spec": {"root": "/"}}, r"spec\.files: missing"),
        ({"colour": 1}, r"colour: unknown key"),
    ],
)
def test_a_manifest_that_says_something_else(
    copy: StoreDir, change: dict[str, object], message: str
) -> None:
    write_sealed_json(copy.manifest, read_sealed_json(copy.manifest, "") | change)
    what = r"corpus\.json is (not a manifest of a store|damaged): "
    with pytest.raises(DataError, match=what + message):
        Store(copy.root)


def test_every_changed_byte_of_the_manifest_is_refused_or_without_effect(copy: StoreDir) -> None:
    whole, manifest = copy.manifest.read_bytes(), read_manifest(copy)
    for place in range(0, len(whole), 7):
        copy.manifest.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            found = read_manifest(copy)
        except DataError:
            continue
        assert found == manifest


def test_a_generation_that_is_not_there(copy: StoreDir) -> None:
    assert Store(copy.root, 1).generation == Store(copy.root).generation == 1
    with pytest.raises(DataError, match=r"store has no generation 3, found 1\. Was it made anew\?"):
        Store(copy.root, 3)


def test_a_missing_or_damaged_index_says_what_to_do(copy: StoreDir) -> None:
    advice = "Delete it, if it is there, and run the same `mads annotate` again; it makes it"
    for content in (b"PAR1", None):
        for path in (copy.index(1).order, copy.index(1).cells):
            path.unlink(missing_ok=True)
            if content:
                path.write_bytes(content)
        with pytest.raises(DataError, match=rf"order\.parquet cannot be read: .*{advice}"):
            Store(copy.root).order.docs(np.zeros(1, np.int64))
        with pytest.raises(DataError, match=rf"cells\.parquet .*{advice}"):
            _ = Store(copy.root).cells


def test_cells_have_names_counts_and_places(toy_store: Path) -> None:
    cells = Store(toy_store).cells
    assert cells.agents == ("domain", "quality")
    assert cells.categories["domain"] == ("books", "code", "news")
    assert cells.category_CA.shape == (len(cells), 2)
    assert cells.num_docs_C.sum() == 300
    assert cells.first_row_C.tolist() == [0, *np.cumsum(cells.num_docs_C)[:-1]]
    order = pq.read_table(StoreDir(toy_store).index(1).order)
    tokens = np.bincount(order["cell"].to_numpy(), order["num_tokens"].to_numpy())
    assert cells.num_tokens_C.tolist() == tokens.tolist()


def seal_anew(store: StoreDir, *paths: Path) -> None:
    """Make the manifest say what the files themselves say."""
    manifest = read_manifest(store)
    facts = manifest.generations["1"]
    files = {**facts.files, **{store.name_of(path): read_seal(path) for path in paths}}
    replace(manifest, generations={"1": replace(facts, files=files)}).write(store)


def test_rows_of_the_order_are_found_over_row_groups(copy: StoreDir) -> None:
    table = pq.read_table(copy.index(1).order)
    with sealed_writer(copy.index(1).order, table.schema) as writer:
        writer.write_table(table, row_group_size=64)
    write_sums(copy.index(1).order_sums, [copy.index(1).order])
    seal_anew(copy, copy.index(1).order, copy.index(1).order_sums)
    assert pq.read_metadata(copy.index(1).order).num_row_groups == 5
    docs = table["doc"].to_numpy()
    rows = np.array([299, 0, 63, 64, 64, 130], np.int64)
    assert Store(copy.root).order.docs(rows).tolist() == docs[rows].tolist()
    assert Store(copy.root).order.docs(np.zeros(0, np.int64)).tolist() == []


def test_tokens_of_a_document(toy_store: Path, toy_documents: list[dict[str, str]]) -> None:
    store = Store(toy_store)
    for number, (shard, row) in {0: (0, 0), 149: (0, 149), 150: (1, 0), 299: (2, 49)}.items():
        reader, found = store.tokens(doc_id(shard, row))
        assert found == row
        *tokens, last = reader.row(found).tolist()
        assert last == store.tokenizer.end_of_text
        assert store.tokenizer.tokenizer.decode(tokens) == toy_documents[number]["text"]


def test_a_document_is_put_together_from_its_tokens(
    toy_store: Path, toy_documents: list[dict[str, str]]
) -> None:
    store = Store(toy_store)
    assert [store.text(doc) for doc in range(5)] == [d["text"] for d in toy_documents[:5]]


def test_texts_of_many_documents_are_those_of_each(toy_store: Path) -> None:
    store = Store(toy_store)
    docs = store.order.docs(np.arange(0, 300, 7))
    assert store.texts(docs) == [store.text(int(doc)) for doc in docs]


def test_another_tokenizer_is_refused(copy: StoreDir) -> None:
    path = copy.tokenizer / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"truncation": None}, indent=3))
    found = r"tokenizer\.json is not the file that was written: its fingerprint is [0-9a-f]{16}, "
    with pytest.raises(DataError, match=found):
        _ = Store(copy.root).tokenizer


def test_an_index_without_an_agent_is_refused(copy: StoreDir) -> None:
    write_sealed(copy.index(1).cells, pq.read_table(copy.index(1).cells).drop_columns(["quality"]))
    seal_anew(copy, copy.index(1).cells)
    with pytest.raises(
        DataError, match=r"cells\.parquet has the columns \[.*\], expected \[.*'quality'"
    ):
        _ = Store(copy.root).cells


CHANGED = (
    r"is not the file that was written: its fingerprint is [0-9a-f]{16}, expected "
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
    header = Store(copy.root).spec.memory_header("quality", 1)
    if how == "edited":  # by someone who seals it again
        labels = Labels(labels.category_N[::-1], labels.score_N)
        write_memory(path, header, doc_numbers(1, 100), labels)
    else:
        path.write_bytes(copy.memory_shard("quality", 0).read_bytes())
    message = CHANGED if how == "edited" else "does not belong to this store: its shard is"
    with pytest.raises(DataError, match=rf"quality/shard-00001\.parquet {message}"):
        Store(copy.root).memory("quality", 1)


def test_a_table_of_documents_that_is_not_the_manifests_is_refused(copy: StoreDir) -> None:
    assert len(Store(copy.root).documents(0).status_N) == 150
    copy.documents(0).write_bytes(copy.documents(1).read_bytes())
    with pytest.raises(DataError, match=rf"documents/shard-00000\.parquet {CHANGED}"):
        Store(copy.root).documents(0)


@pytest.mark.parametrize("name", ["order", "cells", "order_sums", "content"])
def test_an_index_that_is_not_the_manifests_is_refused(
    copy: StoreDir, toy_documents: list[Document], make_store: MakeStore, name: str
) -> None:
    other = StoreDir(make_store(toy_documents, seed=1, corpus={"max_doc_bytes": 99}))
    path: Path = getattr(copy.index(1), name)
    path.write_bytes(getattr(other.index(1), name).read_bytes())
    changed = CHANGED.replace("fingerprint is", "(fingerprint|size) is")

    def read() -> None:
        store = Store(copy.root)
        _ = store.cells
        store.order.docs(np.zeros(1, np.int64))
        store.documents(0)

    with pytest.raises(DataError, match=rf"index/0001/{path.name} {changed}"):
        read()


def test_a_flipped_byte_anywhere_in_the_order_is_noticed_before_it_counts(copy: StoreDir) -> None:
    path = copy.index(1).order
    whole = path.read_bytes()
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DataError, match=r"order\.parquet "):
            Store(copy.root).order.docs(np.arange(300))


def test_a_file_that_the_manifest_does_not_know(copy: StoreDir) -> None:
    manifest = read_manifest(copy)
    facts = manifest.generations["1"]
    files = {name: seal for name, seal in facts.files.items() if "cells" not in name}
    replace(manifest, generations={"1": replace(facts, files=files)}).write(copy)
    with pytest.raises(DataError, match=r"files: found or missing 'index/0001/cells\.parquet'"):
        Store(copy.root)
    manifest.write(copy)
    message = r"says nothing of documents/shard-00009\.parquet in generation 1\. Run the same"
    with pytest.raises(DataError, match=message):
        Store(copy.root).seal(copy.documents(9))


def test_content_outside_of_the_store_is_refused(copy: StoreDir) -> None:
    opened = Store(copy.root)
    content = opened.index.content
    facts, own = opened.facts, copy.name_of(content)
    for name in ("../victim.txt", "/etc/hostname", "documents/../../victim.txt"):
        write_sealed_json(
            content, read_sealed_json(content, "") | {name: {"size": 1, "sha256": ""}}
        )
        files = {**facts.files, own: read_seal(content)}
        changed = replace(facts, files=files)
        replace(opened.manifest, generations={"1": changed}).write(copy)
        with pytest.raises(DataError, match=r"content\.json names a file outside of the store"):
            _ = Store(copy.root).content


def test_few_files_are_open_however_many_shards_are_read(
    toy_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPEN_SHARDS", 2)
    store = Store(toy_store)
    for shard in (0, 1, 2, 0, 1, 2):
        reader, row = store.tokens(doc_id(shard, 3))
        assert len(reader.row(row)) > 1
        assert len(store._tokens) <= 2
    assert sorted(store._checks) == [0, 1, 2]  # what was verified is remembered


def test_documents_are_found_in_their_files_and_back(toy_store: Path) -> None:
    store = Store(toy_store)
    docs = [doc_id(0, 0), doc_id(0, 149), doc_id(1, 0), doc_id(2, 49)]
    file_N, row_N = store.locate(np.array(docs, np.uint64))
    assert file_N.tolist() == [0, 0, 1, 2]
    assert row_N.tolist() == [0, 149, 0, 49]
    assert [store.document_at(f, r) for f, r in zip(file_N, row_N, strict=True)] == docs
    assert store.document_at(1, 100) is None
