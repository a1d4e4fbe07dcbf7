"""A store grows: files and agents are added, nothing old is made anew, older runs keep theirs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from annotate.test_annotate import content, run, times
from command import mads
from toys import Document, MakeRecipe, write_jsonl

from mads.annotate import annotate as module
from mads.annotate.annotate import annotate
from mads.annotate.growth import look
from mads.console import initial_state
from mads.console.state import console_to_json
from mads.corpus import files as corpus_files
from mads.errors import DataError, UsageError
from mads.layout import StoreDir
from mads.report.explain import find_document
from mads.store.manifest import read_manifest
from mads.store.store import Store
from mads.types import doc_id

MORE: list[Document] = [
    {"text": f"the new river {i}", "meta": {"domain": "news"}, "quality": i % 5} for i in range(30)
]


@pytest.fixture
def corpus(toy_corpus: Path, tmp_path: Path) -> Path:
    shutil.copytree(toy_corpus, tmp_path / "corpus")
    return tmp_path / "corpus"


@pytest.fixture
def store(corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path) -> StoreDir:
    run([corpus], tmp_path / "store", toy_recipe())
    return StoreDir(tmp_path / "store")


def test_a_file_more_is_shards_more_and_a_generation(
    store: StoreDir, corpus: Path, toy_recipe: MakeRecipe
) -> None:
    old = Store(store.root)
    order, cells = old.index.order.read_bytes(), old.cells
    parts = [store.root / name for name in ("documents", "tokens", "memories", "index")]
    before = [times(part) for part in parts]
    write_jsonl(corpus / "a-first.jsonl", MORE)  # whatever its name: documents keep their numbers
    result = run([corpus], store.root, toy_recipe())
    assert (result.generation, result.new_files, result.new_shards) == (2, 1, 1)
    assert (result.rows, result.new_agents) == (330, [])
    for part, then in zip(parts, before, strict=True):
        now = times(part)
        assert {path: now[path] for path in then} == then
    new = Store(store.root)
    assert (new.generation, len(new.spec.shards)) == (2, 4)
    assert int(new.cells.num_docs_C.sum()) == 330
    again = Store(store.root, 1)
    assert again.fingerprint == old.fingerprint != new.fingerprint
    assert again.cells.num_docs_C.tolist() == cells.num_docs_C.tolist()
    assert again.index.order.read_bytes() == order
    assert new.document_at(3, 7) == doc_id(3, 7)
    assert new.spec.files[3].path == "a-first.jsonl"
    unchanged = run([corpus], store.root, toy_recipe())
    assert (unchanged.generation, unchanged.new_index, unchanged.new_files) == (2, False, 0)


def test_a_grown_store_selects_as_one_that_was_made_at_once(
    store: StoreDir, corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    write_jsonl(corpus / "z.jsonl", MORE)
    run([corpus], store.root, toy_recipe())
    tokenizer = {"vocab_size": 400}
    shutil.copytree(store.tokenizer, tmp_path / "fresh" / "tokenizer")  # trained before it grew
    (tmp_path / "fresh" / "seen.json").write_text("{}")
    shutil.copy(store.spec, tmp_path / "fresh" / "annotate.json")
    run([corpus], tmp_path / "fresh", toy_recipe(tokenizer=tokenizer))
    fresh = Store(tmp_path / "fresh")
    assert fresh.fingerprint == Store(store.root).fingerprint
    assert fresh.index.order.read_bytes() == Store(store.root).index.order.read_bytes()


@pytest.mark.parametrize("step", ["_make_tokenizer", "label", "bin_scores", "_build"])
def test_a_killed_growth_leaves_the_old_generation_usable(
    store: StoreDir,
    corpus: Path,
    toy_recipe: MakeRecipe,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    step: str,
) -> None:
    fingerprint = Store(store.root).fingerprint
    write_jsonl(corpus / "z.jsonl", MORE)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, step, killed)
        with pytest.raises(KeyboardInterrupt):
            run([corpus], store.root, toy_recipe())
    opened = Store(store.root)
    assert (opened.generation, opened.fingerprint) == (1, fingerprint)
    assert int(opened.cells.num_docs_C.sum()) == 300
    # Given up, and grown by something else instead: what was begun is as good as none.
    write_jsonl(corpus / "z.jsonl", [{**d, "text": d["text"] + "!"} for d in MORE])
    result = run([corpus], store.root, toy_recipe())
    assert (result.generation, result.rows) == (2, 330)
    last = Store(store.root)
    reader, row = last.tokens(doc_id(3, 0))
    text = last.tokenizer.tokenizer.decode(reader.row(row).tolist()[:-1])
    assert text == "the new river 0!"


def test_finished_files_are_not_read_again(
    store: StoreDir, corpus: Path, toy_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned: list[Path] = []
    scan = corpus_files.scan_file

    def counted(path: Path, shard_docs: int) -> Any:
        scanned.append(path)
        return scan(path, shard_docs)

    def here(paths: Any, shard_docs: int, workers: int) -> Any:
        del workers
        return (counted(path, shard_docs) for path in paths)

    monkeypatch.setattr("mads.annotate.growth.scan", here)
    run([corpus], store.root, toy_recipe())
    assert scanned == []
    write_jsonl(corpus / "z.jsonl", MORE)
    run([corpus], store.root, toy_recipe())
    assert [path.name for path in scanned] == ["z.jsonl"]
    scanned.clear()
    annotate([corpus], store.root, toy_recipe(), lambda *_: None, verify=True)
    assert len(scanned) == 4


def test_what_has_another_time_is_compared(
    store: StoreDir, corpus: Path, toy_recipe: MakeRecipe
) -> None:
    path = corpus / "part-0.jsonl"
    path.write_bytes(path.read_bytes())  # the same, but written again
    assert run([corpus], store.root, toy_recipe()).new_index is False
    path.write_bytes(path.read_bytes().replace(b"river", b"RIVER", 1))
    with pytest.raises(DataError, match=r"part-0\.jsonl has changed: found sha256"):
        run([corpus], store.root, toy_recipe())


def test_verify_finds_what_time_and_size_hide(
    store: StoreDir, corpus: Path, toy_recipe: MakeRecipe
) -> None:
    import os

    path = store.tokens_bin(0)
    stat, whole = path.stat(), path.read_bytes()
    path.write_bytes(whole[:9] + bytes([whole[9] ^ 1]) + whole[10:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    run([corpus], store.root, toy_recipe())  # looks untouched
    with pytest.raises(DataError, match=r"shard-00000\.bin is damaged: its checksums differ"):
        annotate([corpus], store.root, toy_recipe(), lambda *_: None, verify=True)


def test_many_small_files_are_few_shards(toy_recipe: MakeRecipe, tmp_path: Path) -> None:
    for i in range(60):
        write_jsonl(tmp_path / "corpus" / f"{i:03d}.jsonl", [{**MORE[i % 30], "text": f"file {i}"}])
    agents = {"domain": {"backend": "column", "field": "meta.domain", "categories": ["news"]}}
    recipe = toy_recipe(agents=agents, corpus={"workers": 1, "shard_docs": 25})
    result = run([tmp_path / "corpus"], tmp_path / "store", recipe)
    assert (result.rows, result.new_shards) == (60, 3)
    store = Store(tmp_path / "store")
    for number in (0, 24, 25, 59):
        doc = store.document_at(number, 0)
        assert doc == doc_id(number // 25, number % 25)
        reader, row = store.tokens(doc)
        text = store.tokenizer.tokenizer.decode(reader.row(row).tolist()[:-1])
        assert text == f"file {number}"


def test_a_damaged_plan_beside_a_whole_manifest_is_written_anew(
    store: StoreDir, corpus: Path, toy_recipe: MakeRecipe
) -> None:
    before = content(store.root)
    for damage in (b"", b"{", b"[]", b'{"format": 3}', store.spec.read_bytes()[:-9]):
        store.spec.write_bytes(damage)
        assert look(store).begun is None
        assert run([corpus], store.root, toy_recipe()).new_index is False
        assert content(store.root) == before


def test_both_damaged_is_told(store: StoreDir, corpus: Path, toy_recipe: MakeRecipe) -> None:
    store.spec.write_text("{")
    store.manifest.write_text("{")
    with pytest.raises(DataError, match=r"corpus\.json cannot be read as JSON"):
        run([corpus], store.root, toy_recipe())


def test_a_lost_manifest_loses_no_generation(
    store: StoreDir, corpus: Path, toy_recipe: MakeRecipe
) -> None:
    write_jsonl(corpus / "z.jsonl", MORE)
    run([corpus], store.root, toy_recipe())
    manifest = read_manifest(store)
    for damaged in ("cut", None):
        if damaged is None:
            store.manifest.unlink()
        else:
            store.manifest.write_text(store.manifest.read_text().replace("format", "fornat"))
        result = run([corpus], store.root, toy_recipe())
        assert (result.generation, result.new_index, result.new_shards) == (2, False, 0)
        again = read_manifest(store)
        assert again == replace(manifest, provenance=again.provenance)
        assert again.provenance


def test_a_corpus_file_that_changes_meanwhile_is_not_taken_as_read(
    corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label, victim = module.label, sorted(corpus.iterdir())[0]

    def exchanged(*arguments: Any) -> int:
        found = label(*arguments)
        write_jsonl(corpus / victim.name, MORE)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(module, "label", exchanged)
        run([corpus], tmp_path / "store", toy_recipe())
    with pytest.raises(DataError, match=rf"{victim.name} has changed: found sha256"):
        run([corpus], tmp_path / "store", toy_recipe())


def test_a_plan_is_cut_into_parts_after_the_store_has_grown(
    store: StoreDir,
    corpus: Path,
    toy_recipe: MakeRecipe,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = console_to_json(initial_state(Store(store.root).cells.categories))
    (tmp_path / "console.json").write_text(json.dumps(state))
    call = ("--store", store.root, "--console", tmp_path / "console.json", "--fraction", "0.5")
    assert mads(capsys, "select", *call, "--out", tmp_path / "whole")[0] == 0
    write_jsonl(corpus / "z.jsonl", MORE)
    run([corpus], store.root, toy_recipe())
    plan = ("--store", store.root, "--plan", tmp_path / "whole" / "plan.json")
    docs: set[int] = set()
    for i in range(2):
        out = tmp_path / f"part{i}"
        assert mads(capsys, "part", *plan, "--shard", f"{i}/2", "--out", out)[0] == 0
        docs |= set(pq.read_table(out / "selection.parquet")["doc"].to_pylist())
    whole = pq.read_table(tmp_path / "whole" / "selection.parquet")["doc"].to_pylist()
    assert docs == set(whole)


def test_a_lost_tokenizer_is_trained_again_as_it_was(
    store: StoreDir, corpus: Path, toy_recipe: MakeRecipe
) -> None:
    write_jsonl(corpus / "z.jsonl", MORE)
    run([corpus], store.root, toy_recipe())
    before, whole = Store(store.root).tokenizer.fingerprint, content(store.root)
    shutil.rmtree(store.tokenizer)
    result = run([corpus], store.root, toy_recipe())
    assert (result.generation, result.new_index) == (2, False)
    assert Store(store.root).tokenizer.fingerprint == before
    assert content(store.root) == whole


def test_another_tokenizer_in_place_of_a_lost_one_is_refused(
    store: StoreDir, corpus: Path, toy_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(store.tokenizer)
    monkeypatch.setattr(module, "_tokenizer_sample", lambda *_: iter(["other words", "at all"]))
    message = r"tokenizer is gone, and what would be made .*: found \w+, expected \w+\. Put the old"
    with pytest.raises(DataError, match=message):
        run([corpus], store.root, toy_recipe())
    assert not store.tokenizer.exists()


def test_edges_of_a_growth_that_was_given_up_do_not_stay(
    store: StoreDir, corpus: Path, toy_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents = {"size": {"backend": "column", "field": "size", "quantiles": 2}}
    low = [{"text": f"river {i}", "size": i} for i in range(20)]
    high = [{"text": f"stone {i}", "size": 1000 + i} for i in range(20)]
    folder = corpus.parent / "sizes"
    write_jsonl(folder / "a.jsonl", low)
    recipe, out = toy_recipe(agents=agents), corpus.parent / "sized"
    write_jsonl(folder / "b.jsonl", high)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_finish", killed)
        with pytest.raises(KeyboardInterrupt):
            run([folder], out, recipe)
    (folder / "b.jsonl").unlink()
    shutil.rmtree(out)
    plain = toy_recipe(agents={"other": {**agents["size"]}})
    run([folder], out, plain)
    write_jsonl(folder / "b.jsonl", high)
    both = toy_recipe(agents={"other": agents["size"], "size": agents["size"]})
    with monkeypatch.context() as patch:
        patch.setattr(module, "_finish", killed)
        with pytest.raises(KeyboardInterrupt):
            run([folder], out, both)
    (folder / "b.jsonl").unlink()
    result = run([folder], out, both)
    assert result.edges["size"] == result.edges["other"]
    assert max(result.edges["size"]) < 20


def test_what_mads_has_made_below_a_corpus_is_no_part_of_it(
    corpus: Path, toy_recipe: MakeRecipe
) -> None:
    first = run([corpus], corpus / "store", toy_recipe())
    again = run([corpus], corpus / "store", toy_recipe())
    assert (first.rows, again.rows, again.generation) == (300, 300, 1)
    with pytest.raises(UsageError, match=r"store is a store that mads made\. Give a folder of"):
        run([corpus / "store"], corpus / "other", toy_recipe())
    with pytest.raises(UsageError, match=r"index/0002 lies in .*store, which is a store\. Give"):
        run([corpus], corpus / "store" / "index" / "0002", toy_recipe())


def test_a_file_keeps_its_name_whatever_comes_later(
    store: StoreDir, corpus: Path, toy_recipe: MakeRecipe
) -> None:
    name = Store(store.root).spec.files[0].path
    write_jsonl(corpus / "sub" / name, MORE)
    run([corpus], store.root, toy_recipe())
    for generation in (1, 2):  # a whole path wins over one that ends so
        assert find_document(Store(store.root, generation), f"{name}:3") == doc_id(0, 3)
    later = Store(store.root)
    assert find_document(later, f"sub/{name}:3") == later.document_at(3, 3)
    write_jsonl(corpus / "more" / "deep" / f"new-{name}", MORE[:5])
    write_jsonl(corpus / "other" / f"new-{name}", MORE[5:9])
    run([corpus], store.root, toy_recipe())
    with pytest.raises(UsageError, match=rf"new-{name}' does not name .*; 2 files end so"):
        find_document(Store(store.root), f"new-{name}:0")


@pytest.mark.parametrize("index_too", [False, True])
def test_a_lost_memory_of_an_older_generation_names_its_agent_and_what_repairs_it(
    store: StoreDir, corpus: Path, toy_recipe: MakeRecipe, index_too: bool
) -> None:
    old = toy_recipe()
    edges = replace(old.agents["quality"], edges=(1.5, 2, 3, 4))  # type: ignore[call-arg]
    present = replace(old, agents={**old.agents, "quality": edges})
    assert run([corpus], store.root, present).generation == 2
    labels = Store(store.root, 1).memory("quality", 0).category_N
    shutil.rmtree(store.memory("quality"))
    remedy = (
        r"It is of generation 1, whose agent 'quality' \(fingerprint [0-9a-f]{16}\) the present "
        "generation 2 has not. Put it back; or delete it, if it is there, run `mads annotate` with "
        "the recipe of generation 1, and then the present one again"
    )
    with pytest.raises(DataError, match=f"cannot be read: .*No such file or directory. {remedy}"):
        Store(store.root, 1).memory("quality", 0)
    if index_too:
        store.index(1).order.unlink()
        with pytest.raises(DataError, match=f"is gone, and so is a file of the index.*{remedy}"):
            run([corpus], store.root, present)
    else:  # which is why it is not what the message advises
        assert not run([corpus], store.root, present).new_index
        assert not store.memory("quality").exists()
    run([corpus], store.root, old)
    assert run([corpus], store.root, present).generation == 2
    assert (Store(store.root, 1).memory("quality", 0).category_N == labels).all()
    assert Store(store.root, 1).order.path.is_file()
    path = store.memory_shard("quality", 0)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=remedy):
        run([corpus], store.root, present)
