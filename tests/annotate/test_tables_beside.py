"""annotate with tables beside the corpus: labels reach the right documents, whoever works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from annotate.test_annotate import content, run
from toys import Document, MakeRecipe, write_jsonl

from mads.errors import UsageError
from mads.store.store import Store

EACH = 30
IDS = [f"{part}-{i}" for part in range(3) for i in range(EACH)]
KIND = {name: "ab"[i * 5 % 7 % 2] for i, name in enumerate(IDS)}
KNOWN = [name for i, name in enumerate(IDS) if i % 4]
BY_ID = {
    "backend": "table",
    "field": "kind",
    "id": "id",
    "categories": ["a", "b"],
    "missing": "unknown",
}
BY_ROW = {"backend": "table", "attribute": "exp__t__len", "quantiles": 3}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three files, a third of whose rows is empty; a table by ids and Dolma's attributes."""
    for part in range(3):
        names = IDS[part * EACH : (part + 1) * EACH]
        rows: list[Document] = [
            {"id": name, "text": f"words of {name}" if i % 3 else ""}
            for i, name in enumerate(names)
        ]
        spans: list[Document] = [
            {"id": name, "attributes": {"exp__t__len": [[0, 5, int(name[2:])]]}} for name in names
        ]
        write_jsonl(tmp_path / "documents" / f"{part}.jsonl", rows)
        write_jsonl(tmp_path / "attributes" / "exp" / f"{part}.jsonl", spans)
    table: list[Document] = [{"id": name, "kind": KIND[name]} for name in KNOWN[::-1]]
    write_jsonl(tmp_path / "table.jsonl", table)
    return tmp_path


def made(corpus: Path, recipe: MakeRecipe, out: str, **settings: Any) -> Store:
    agents = {
        "kind": {**BY_ID, "files": [str(corpus / "table.jsonl")]},
        "length": {**BY_ROW, "files": [str(corpus / "attributes" / "exp")]},
    }
    keys = {"id_field": "id", "shard_docs": 8, "shard_bytes": 1, **settings}
    run([corpus / "documents"], corpus / out, recipe(agents=agents, corpus=keys))
    return Store(corpus / out)


def column(store: Store, agent: str, name: str) -> dict[str, Any]:
    """Return what a memory says of each id whose document is ok."""
    found: dict[str, Any] = {}
    for shard in range(len(store.spec.shards)):
        folder = store.spec.agents[agent].folder
        values = pq.read_table(store.dir.memory_shard(folder, shard))[name].to_pylist()
        table = pq.read_table(store.dir.documents(shard))
        ok = zip(table["id"].to_pylist(), table["num_tokens"].to_pylist(), values, strict=True)
        found |= {key: value for key, tokens, value in ok if tokens}
    return found


def test_every_document_has_its_own_label_from_either_table(
    corpus: Path, toy_recipe: MakeRecipe
) -> None:
    store = made(corpus, toy_recipe, "store", executor="inline")
    names = store.spec.categories["kind"]
    kinds = {key: names[i] for key, i in column(store, "kind", "category").items()}
    assert len(kinds) == 60
    assert kinds == {key: KIND[key] if key in KNOWN else "unknown" for key in kinds}
    assert store.cells.by_category("kind", store.cells.num_docs_C).tolist()[2] == 15
    lengths = column(store, "length", "score")
    assert lengths == {key: float(key[2:]) for key in lengths}
    assert not store.dir.prepared.exists()


def test_any_number_of_workers_makes_the_same_store(corpus: Path, toy_recipe: MakeRecipe) -> None:
    one = made(corpus, toy_recipe, "one", executor="inline")
    two = made(corpus, toy_recipe, "two", executor="processes", workers=2)
    assert content(one.dir.root) == content(two.dir.root)
    before = content(one.dir.root)
    again = made(corpus, toy_recipe, "one", executor="inline")  # nothing is made anew
    assert content(again.dir.root) == before


def test_a_changed_table_is_a_new_memory(corpus: Path, toy_recipe: MakeRecipe) -> None:
    made(corpus, toy_recipe, "store", executor="inline")
    write_jsonl(corpus / "table.jsonl", [{"id": name, "kind": "a"} for name in KNOWN])
    store = made(corpus, toy_recipe, "store", executor="inline")
    assert store.spec.agents["kind"].folder.startswith("kind.")
    assert set(column(store, "kind", "category").values()) == {0, 2}


def test_ids_need_a_field_of_the_corpus(corpus: Path, toy_recipe: MakeRecipe) -> None:
    with pytest.raises(UsageError, match=r"agent 'length' matches .* corpus\.id_field names no"):
        made(corpus, toy_recipe, "store", executor="inline", id_field="-")
