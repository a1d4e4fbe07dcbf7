"""How a store stands agrees with its files, at every moment of its making."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from annotate.test_annotate import SHARDS
from command import mads
from toys import Document, MakeRecipe, write_jsonl

from mads.annotate.annotate import annotate
from mads.annotate.sharded import annotate_part, plan
from mads.errors import UsageError
from mads.layout import StoreDir
from mads.report.store_status import store_status
from mads.store.store import Store


def quiet(*_: object) -> None:
    pass


def test_from_the_plan_to_the_end(
    toy_documents: list[Document], toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    documents = [dict(document) for document in toy_documents[:80]]
    for row in (3, 50, 51):
        documents[row]["text"] = ""
    write_jsonl(tmp_path / "c" / "a.jsonl", documents[:40])
    write_jsonl(tmp_path / "c" / "b.jsonl", documents[40:])
    corpus, out = [tmp_path / "c"], tmp_path / "store"
    recipe = toy_recipe(corpus={"executor": "inline", "workers": 1, **SHARDS})
    with pytest.raises(UsageError, match="does not exist"):
        store_status(out)
    plan(corpus, out, recipe, quiet)
    found = store_status(out)
    assert (found.state, found.generation, found.files) == ("stopped", 0, 2)
    assert (found.shards, found.shards_done, found.rows, found.rows_done) == (10, 0, 80, 0)
    assert found.left == {"documents and tokens": 10, "domain": 10, "quality": 10}
    assert (found.docs_per_s, found.seconds_left, found.bad_files) == (None, None, {})
    annotate_part(corpus, out, recipe, (1, 2), quiet)
    store = StoreDir(out)
    done = [i for i in range(10) if store.documents(i).is_file()]
    # Shards of 8 rows that were finished 2 s after each other.
    for place, shard in enumerate(done):
        for path in out.rglob(f"shard-{shard:05d}.*"):
            os.utime(path, (1e9 + 2 * place, 1e9 + 2 * place))
    found = store_status(out)
    assert (found.shards_done, found.rows_done) == (len(done), 8 * len(done))
    assert found.docs_per_s == pytest.approx(4.0)
    assert found.seconds_left == pytest.approx((80 - 8 * len(done)) / 4.0)
    assert sum(found.left.values()) == 3 * (10 - len(done))
    (store.root / "work-x.partial").mkdir()  # another process is at it
    found = store_status(out)
    assert (found.state, found.workers) == ("running", 1)
    os.utime(store.root / "work-x.partial", (1e9, 1e9))  # it was killed long ago
    assert store_status(out).state == "stopped"
    annotate_part(corpus, out, recipe, (2, 2), quiet)
    found = store_status(out)
    assert (found.state, found.generation, found.left) == ("complete", 1, {})
    assert found.statuses["empty"] == 3
    assert found.statuses["ok"] == 77
    assert found.bad_files == {
        str(tmp_path / "c" / "b.jsonl"): 2,
        str(tmp_path / "c" / "a.jsonl"): 1,
    }
    assert found.tokens_done == int(Store(out).cells.num_tokens_C.sum())


def test_what_is_left_of_one_that_grows(
    toy_store: Path,
    toy_corpus: Path,
    toy_recipe: MakeRecipe,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(toy_store, tmp_path / "store")
    shutil.copytree(toy_corpus, tmp_path / "c")
    write_jsonl(tmp_path / "c" / "z.jsonl", [{"text": "x", "meta": {"domain": "code"}}])
    agents = {"domain": {"backend": "column", "field": "meta.domain", "categories": ["code"]}}
    agents["domain"]["other"] = "code"
    plan([tmp_path / "c"], tmp_path / "store", toy_recipe(agents=agents), quiet)
    before = sorted(path.name for path in (tmp_path / "store").rglob("*"))
    code, out, _ = mads(capsys, "status", tmp_path / "store", "--json")
    assert code == 0
    value = json.loads(out)
    assert (value["state"], value["generation"], value["rows"]) == ("stopped", 1, 301)
    assert value["left"] == {"domain": 4, "documents and tokens": 1}
    assert sorted(path.name for path in (tmp_path / "store").rglob("*")) == before
    annotate([tmp_path / "c"], tmp_path / "store", toy_recipe(agents=agents), quiet)
    code, _, words = mads(capsys, "status", tmp_path / "store")
    assert code == 0
    assert "complete (generation 2), 301 of 301 documents" in words
