"""annotate: rows in = rows out, the same store however often it is killed, no silent mixing."""

from __future__ import annotations

import json
import shutil
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus.hostile import HOSTILE, PARQUET_STATUSES, hostile_parquet
from toys import MakeRecipe, MakeStore, write_jsonl

from mads.annotate.annotate import AnnotateResult, _tokenizer_sample, annotate
from mads.annotate.growth import Before, next_spec
from mads.config import Recipe
from mads.corpus.files import find_files, scan
from mads.corpus.tokens import TokenReader
from mads.errors import DataError
from mads.files import exclusive, read_json
from mads.layout import StoreDir
from mads.recipe import to_table
from mads.store.manifest import read_manifest
from mads.store.store import Store
from mads.types import NO_CATEGORY, Status, doc_id

SHARD_DOCS = 8
SHARDS = {"shard_docs": SHARD_DOCS, "shard_bytes": 1}
NUM_SHARDS = 39


def run(paths: list[Path], out: Path, recipe: Recipe) -> AnnotateResult:
    return annotate(paths, out, recipe, lambda *_: None)


def content(store: Path) -> dict[str, Any]:
    """Return what a store holds: name -> bytes, without the provenance."""
    found: dict[str, Any] = {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file()
        and path.name not in (".lock", "seen.json", "cost.json")
        and path.parent.name != "costs.partial"
    }
    manifest = json.loads(found["corpus.json"])
    del manifest["provenance"], manifest["sha256"]
    return found | {"corpus.json": manifest}


def times(folder: Path) -> dict[str, int]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != "seen.json")
    return {str(p): p.stat().st_mtime_ns for p in files}


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, toy_corpus: Path, toy_recipe: MakeRecipe
) -> Path:
    """A store of many small shards, made in one go by one process."""
    out = tmp_path_factory.mktemp("undisturbed") / "store"
    recipe = toy_recipe(corpus={"workers": 1, **SHARDS})
    assert run([toy_corpus], out, recipe).new_shards == NUM_SHARDS
    return out


def test_the_number_of_workers_does_not_matter(
    undisturbed: Path, toy_corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = toy_recipe(corpus={"workers": 2, **SHARDS})
    run([toy_corpus], tmp_path / "store", recipe)
    assert content(tmp_path / "store") == content(undisturbed)


def test_a_complete_store_is_left_alone(
    undisturbed: Path, toy_corpus: Path, toy_recipe: MakeRecipe
) -> None:
    before = times(undisturbed)
    recipe = toy_recipe(corpus={"workers": 2, **SHARDS})
    result = run([toy_corpus], undisturbed, recipe)
    assert (result.rows, result.new_shards, result.new_index) == (300, 0, False)
    assert times(undisturbed) == before


@pytest.mark.parametrize("name", ["order", "cells", "order_sums", "content", "manifest"])
@pytest.mark.parametrize("how", ["gone", "cut", "another"])
def test_a_damaged_index_is_rebuilt(
    toy_store: Path, toy_corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path, name: str, how: str
) -> None:
    shutil.copytree(toy_store, tmp_path / "store")
    store = StoreDir(tmp_path / "store")
    path: Path = store.manifest if name == "manifest" else getattr(store.index(1), name)
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif name == "manifest":
        path.write_text(json.dumps(read_json(path) | {"generation": 2}))
    elif name in ("order_sums", "content"):
        path.write_bytes(path.read_bytes()[::-1])
    else:
        table = pq.read_table(path)
        pq.write_table(table.slice(1) if name == "order" else table.drop_columns("domain"), path)
    result = run([toy_corpus], store.root, toy_recipe())
    # A manifest is put together again from what the indexes say of themselves.
    assert (result.rows, result.new_shards) == (300, 0)
    assert result.new_index == (name != "manifest")
    assert content(store.root) == content(toy_store)


@pytest.mark.parametrize("name", ["tokens_bin", "tokens_idx", "documents"])
def test_a_deleted_shard_is_made_again(
    toy_store: Path, toy_corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path, name: str
) -> None:
    shutil.copytree(toy_store, tmp_path / "store")
    store = StoreDir(tmp_path / "store")
    getattr(store, name)(1).unlink()
    if name != "documents":
        advice = (
            "Delete it with the .bin, .idx and .sum of its name and run the same `mads annotate`"
        )
        with pytest.raises(DataError, match=rf"shard-00001\.(bin|idx) cannot be read: .*{advice}"):
            Store(store.root).tokens(doc_id(1, 0))
    result = run([toy_corpus], store.root, toy_recipe())
    assert (result.new_shards, result.new_index) == (1, False)
    assert content(store.root) == content(toy_store)


def test_another_shard_layout_holds_the_same_documents(undisturbed: Path, toy_store: Path) -> None:
    small, large = Store(undisturbed), Store(toy_store)
    assert small.fingerprint != large.fingerprint  # document numbers differ, so selections do
    assert small.cells.num_docs_C.tolist() == large.cells.num_docs_C.tolist()
    assert small.cells.num_tokens_C.tolist() == large.cells.num_tokens_C.tolist()
    shards = [small.dir.documents(i) for i in range(NUM_SHARDS)]
    hashes = [pq.read_table(path)["content_hash"].to_pylist() for path in shards]
    whole = [pq.read_table(large.dir.documents(i))["content_hash"].to_pylist() for i in range(3)]
    assert list(chain(*hashes)) == list(chain(*whole))


def test_a_new_agent_touches_no_other_memory(
    toy_store: Path, toy_corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    out = tmp_path / "store"
    shutil.copytree(toy_store, out)
    old = to_table(toy_recipe())["agents"]
    new = {"backend": "column", "field": "quality", "edges": [2.5], "categories": ["low", "high"]}
    recipe = toy_recipe(agents=old | {"half": new})
    parts = [out / name for name in ("documents", "tokens", "memories/domain", "memories/quality")]
    before = [times(part) for part in parts]
    before_fingerprint = Store(out).fingerprint
    result = run([toy_corpus], out, recipe)
    assert (result.new_shards, result.generation, result.new_agents) == (3, 2, ["half"])
    assert [times(part) for part in parts] == before
    assert Store(out).cells.agents == ("domain", "quality", "half")
    assert Store(out).fingerprint != before_fingerprint
    assert Store(out, 1).fingerprint == before_fingerprint
    assert Store(out, 1).cells.agents == ("domain", "quality")
    run([toy_corpus], tmp_path / "fresh", recipe)
    fresh = StoreDir(tmp_path / "fresh")
    for name in ("cells", "order", "order_sums"):
        found = getattr(StoreDir(out).index(2), name).read_bytes()
        assert found == getattr(fresh.index(1), name).read_bytes()
    back = run([toy_corpus], out, toy_recipe())  # as it was: the first generation again
    assert (back.generation, back.new_shards, back.new_index) == (1, 0, False)
    assert Store(out).fingerprint == before_fingerprint


AGENTS_CHANGED = {
    "domain": {
        "backend": "column",
        "field": "meta.domain",
        "categories": ["books", "code", "news", "new"],
    }
}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"seed": 1}, "seed: found 0, now 1. "),
        ({"corpus": {"text_field": "body"}}, "corpus.text_field: found 'text', now 'body'. "),
        ({"corpus": {"max_doc_bytes": 99}}, "corpus.max_doc_bytes: found 4194304, now 99. "),
        ({"tokenizer": {"vocab_size": 401}}, "tokenizer.vocab_size: found 400, now 401. "),
        ({"tokenizer": {"vocab_size": 400, "name": "x"}}, "tokenizer.name: found '', now 'x'. "),
    ],
)
def test_a_changed_recipe_is_refused_with_both_values(
    toy_store: Path,
    toy_corpus: Path,
    toy_recipe: MakeRecipe,
    sections: dict[str, Any],
    message: str,
) -> None:
    before = times(toy_store)
    with pytest.raises(DataError) as error:
        run([toy_corpus], toy_store, toy_recipe(**sections))
    text = str(error.value)
    assert f"{toy_store} was made with another {message}" in text
    assert text.endswith("Give another --out, or the old value.")
    assert times(toy_store) == before


def test_a_changed_agent_gets_a_memory_beside_its_older_self(
    toy_store: Path, toy_corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    out = tmp_path / "store"
    shutil.copytree(toy_store, out)
    agents = to_table(toy_recipe())["agents"]
    result = run([toy_corpus], out, toy_recipe(agents=agents | AGENTS_CHANGED))
    assert (result.generation, result.new_agents, result.new_shards) == (2, ["domain"], 3)
    assert Store(out).cells.categories["domain"] == ("books", "code", "news", "new")
    assert Store(out, 1).cells.categories["domain"] == ("books", "code", "news")
    folders = {Store(out, number).spec.agents["domain"].folder for number in (1, 2)}
    assert {path.name for path in (out / "memories").iterdir()} == folders | {"quality"}
    quality = {"quality": agents["quality"]}
    alone = run([toy_corpus], out, toy_recipe(agents=quality))
    assert (alone.generation, alone.new_shards, alone.new_agents) == (3, 0, [])
    assert Store(out).cells.agents == ("quality",)


@pytest.mark.parametrize("how", ["edited", "gone", "not given"])
def test_a_corpus_file_that_changed_or_vanished_is_named(
    toy_store: Path, toy_corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path, how: str
) -> None:
    corpus, out = tmp_path / "corpus", tmp_path / "store"
    shutil.copytree(toy_corpus, corpus)
    run([corpus], out, toy_recipe())
    path, given = corpus / "part-1.jsonl", [corpus]
    if how == "edited":
        path.write_text(path.read_text().replace("river", "RIVER", 1))
        message = r"part-1\.jsonl has changed: found sha256 [0-9a-f]{16}, expected [0-9a-f]{16}"
    elif how == "gone":
        path.unlink()
        message = r"part-1\.jsonl is gone, and no file given has its content"
    else:
        given = [corpus / "part-0.jsonl", corpus / "part-2.jsonl"]
        message = r"part-1\.jsonl was not given"
    before = times(out)
    whole = (
        rf"made from 3 corpus files, of which 1 are not here:\n  - .*{message}\nA store can grow"
    )
    with pytest.raises(DataError, match=whole):
        run(given, out, toy_recipe())
    assert times(out) == before


@pytest.mark.parametrize("how", ["edited", "exchanged", "cut", "of another store"])
@pytest.mark.parametrize("name", ["memory", "documents"])
def test_a_file_that_is_not_the_manifests_is_refused_with_both_fingerprints(
    undisturbed: Path,
    toy_corpus: Path,
    toy_recipe: MakeRecipe,
    tmp_path: Path,
    name: str,
    how: str,
) -> None:
    store = StoreDir(tmp_path / "store")
    shutil.copytree(undisturbed, store.root)
    paths = [
        store.memory_shard("quality", i) if name == "memory" else store.documents(i) for i in (3, 4)
    ]
    recipe = toy_recipe(corpus={"workers": 1, **SHARDS})
    reason = "is not the file that was written: its fingerprint is [0-9a-f]{16}, expected"
    if how == "edited":
        table = pq.ParquetFile(paths[0]).read()
        pq.write_table(table.set_column(1, table.schema.field(1), table[1][::-1]), paths[0])
    elif how == "exchanged":
        one, two = (path.read_bytes() for path in paths)
        paths[0].write_bytes(two)
        paths[1].write_bytes(one)
    elif how == "cut":
        paths[0].write_bytes(paths[0].read_bytes()[:-9])
        reason = "cannot be read: "
    else:
        other = tmp_path / "corpus"
        other.mkdir()
        for path in toy_corpus.iterdir():
            lines = path.read_text().splitlines(keepends=True)
            (other / path.name).write_text("".join(reversed(lines)))
        run([other], tmp_path / "other", recipe)
        part = paths[0].relative_to(store.root)
        shutil.copy(tmp_path / "other" / part, paths[0])
    before = times(store.root)
    with pytest.raises(DataError, match=rf"shard-00003\.parquet {reason}.*Delete it"):
        run([toy_corpus], store.root, recipe)
    assert times(store.root) == before
    for path in paths:
        path.unlink()
    assert run([toy_corpus], store.root, recipe).new_shards == 2
    assert content(store.root) == content(undisturbed)


def test_a_corpus_that_was_moved_is_found_in_its_new_place(
    toy_store: Path, toy_corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    out, moved = tmp_path / "store", tmp_path / "moved"
    shutil.copytree(toy_store, out)
    shutil.copytree(toy_corpus, moved)
    before, plan_of = times(out), Store(out).fingerprint
    result = run([moved], out, toy_recipe())
    assert (result.new_shards, result.new_index) == (0, False)
    changed = {path for path, at in times(out).items() if before[path] != at}
    expected = {"corpus.json", "annotate.json", "cost.json"}
    assert changed <= {str(out / name) for name in expected}
    assert Store(out).fingerprint == plan_of
    assert Store(out).spec.root == str(moved)
    run([toy_corpus], out, toy_recipe())
    assert content(out) == content(toy_store)


def test_a_corpus_that_was_moved_before_the_store_was_complete(
    toy_store: Path, toy_corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    out, moved = tmp_path / "store", tmp_path / "moved"
    shutil.copytree(toy_store, out)
    (out / "corpus.json").write_text("damaged")
    StoreDir(out).index(1).facts.unlink()
    shutil.copytree(toy_corpus, moved)
    assert run([moved], out, toy_recipe()).new_index
    assert Store(out).spec.root == str(moved)


def test_a_memory_of_another_agent_is_refused(
    toy_store: Path, toy_corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    shutil.copytree(toy_store, tmp_path / "store")
    store = StoreDir(tmp_path / "store")
    shutil.copy(store.memory_shard("quality", 1), store.memory_shard("domain", 1))
    message = r"domain/shard-00001\.parquet is not the file that was written: its fingerprint is"
    with pytest.raises(DataError, match=message):
        run([toy_corpus], store.root, toy_recipe())


def test_a_folder_of_something_else_is_refused(
    toy_corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(
        DataError, match=r"is neither empty nor a store \(it has no corpus\.json\)\. Give another"
    ):
        annotate([toy_corpus], tmp_path, toy_recipe(), lambda *_: pytest.fail("begun to work"))
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_two_calls_at_once_are_refused(
    toy_corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    with exclusive(tmp_path), pytest.raises(DataError, match="written by another mads process"):
        run([toy_corpus], tmp_path, toy_recipe())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"meta": {"domain": "poems"}},
            r"field 'meta\.domain' holds 'poems', which is no category",
        ),
        ({"quality": "high"}, r"field 'quality' holds 'high', which is no number"),
        ({"quality": float("nan")}, r"field 'quality' holds nan, which is not a finite number"),
    ],
)
def test_a_value_without_a_place_is_refused_with_its_file(
    make_store: MakeStore,
    toy_documents: list[dict[str, Any]],
    change: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(DataError, match=rf"corpus\.jsonl: agent '\w+': {message}"):
        make_store([*toy_documents[:5], toy_documents[5] | change])


def test_a_corpus_without_rows_is_refused(toy_recipe: MakeRecipe, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    with pytest.raises(DataError, match="no document of this corpus can be selected"):
        run([tmp_path / "none.parquet"], tmp_path / "store", toy_recipe())


def test_rows_in_are_rows_out(toy_recipe: MakeRecipe, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.jsonl").write_bytes(b"\n".join(line for line, _, _ in HOSTILE))
    hostile_parquet(corpus / "b.parquet")
    write_jsonl(corpus / "c.jsonl", [{"text": "labelled", "set": "known"}])
    agent = {"backend": "column", "field": "set", "categories": ["rest", "known"], "other": "rest"}
    limit = 1024 * 1024
    recipe = toy_recipe(
        agents={"set": agent},
        corpus={"workers": 2, "shard_docs": 5, "shard_bytes": 1, "max_doc_bytes": limit},
    )
    result = run([corpus], tmp_path / "store", recipe)

    of_parquet: list[Status] = [Status.OK if s is Status.TOO_LONG else s for s in PARQUET_STATUSES]
    of_lines = [Status.TOO_LONG if len(text) > limit else s for _, s, text in HOSTILE]
    wanted: list[list[Status]] = [of_lines, of_parquet, [Status.OK]]
    flat = [status for statuses in wanted for status in statuses]
    assert result.rows == len(flat)
    assert result.statuses == {status.value: flat.count(status) for status in Status}
    assert min(result.statuses.values()) > 0

    store = Store(tmp_path / "store")
    assert store.facts.documents.statuses == result.statuses
    selectable = []
    found: list[list[str]] = [[], [], []]
    for number, shard in enumerate(store.spec.shards):
        documents = pq.read_table(store.dir.documents(number))
        memory = pq.read_table(store.dir.memory_shard("set", number))
        reader = TokenReader(store.dir.tokens_bin(number), store.dir.tokens_idx(number))
        docs = [doc_id(number, row) for row in range(shard.num_rows)]
        assert documents["doc"].to_pylist() == memory["doc"].to_pylist() == docs
        length_N = np.array([reader.length(row) for row in range(len(reader))])
        assert documents["num_tokens"].to_pylist() == length_N.tolist()
        statuses = documents["status"].to_pylist()
        (segment,) = shard.segments
        found[segment.file] += statuses
        ok = np.array([status == "ok" for status in statuses])
        assert ((memory["category"].to_numpy() != NO_CATEGORY) == ok).all()
        assert ((length_N > 0) == ok).all()
        selectable += [doc for doc, is_ok in zip(docs, ok, strict=True) if is_ok]
    assert found == wanted
    assert sorted(pq.read_table(store.index.order)["doc"].to_pylist()) == selectable
    assert store.cells.num_docs_C.tolist() == [len(selectable) - 1, 1]
    assert result.tokens == store.cells.num_tokens_C.sum()


def test_the_tokenizer_sample_is_seeded_and_of_the_size_asked_for(
    toy_recipe: MakeRecipe, toy_corpus: Path
) -> None:
    samples = []
    files = list(scan(find_files([toy_corpus]).files, 65_536, 1))
    for seed, sample_bytes in ((0, 20_000), (0, 20_000), (1, 20_000), (0, 10**9)):
        table = {"sample_bytes": sample_bytes}
        recipe = toy_recipe(seed=seed, tokenizer=table)
        spec = next_spec(StoreDir(toy_corpus), Before(), toy_corpus, files, recipe, {})
        samples.append(list(_tokenizer_sample(spec, recipe, lambda *_: None)))
    assert samples[0] == samples[1]
    assert samples[0] != samples[2]
    total = sum(file.text_bytes for file in files)
    expected = 300 * 20_000 / total
    for sample in samples[:3]:
        assert abs(len(sample) - expected) < 4 * expected**0.5
    assert len(samples[3]) == 300


def test_the_manifest_names_files_and_provenance(toy_store: Path, toy_corpus: Path) -> None:
    manifest = read_manifest(StoreDir(toy_store))
    files = manifest.spec.files
    assert [file.path for file in files] == ["part-0.jsonl", "part-1.jsonl", "part-2.jsonl"]
    assert manifest.spec.root == str(toy_corpus)
    assert [file.size for file in files] == [p.stat().st_size for p in sorted(toy_corpus.iterdir())]
    assert [file.num_rows for file in files] == [150, 100, 50]
    assert manifest.generations["1"].documents.rows == manifest.generations["1"].docs == 300
    assert manifest.provenance["packages"]["pyarrow"] == pa.__version__
