"""Agents with quantiles: equal bins over the whole corpus, however the work was cut or killed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from annotate.test_annotate import content, run
from toys import Document, MakeRecipe, write_jsonl

from mads.annotate import annotate as annotate_module
from mads.annotate import binned as module
from mads.config import Recipe
from mads.errors import DataError, UsageError
from mads.files import read_json
from mads.layout import StoreDir
from mads.store.memory import read_header
from mads.store.store import Store
from mads.types import NO_CATEGORY

DOMAIN = {"backend": "column", "field": "meta.domain", "categories": ["books", "code", "news"]}
QUANTILES = {"backend": "column", "field": "edu", "quantiles": 5}


def make_recipe(toy_recipe: MakeRecipe, workers: int = 1, **agent: Any) -> Recipe:
    agents = {"domain": DOMAIN, "edu": QUANTILES | agent}
    return toy_recipe(
        agents=agents, corpus={"workers": workers, "shard_docs": 40, "shard_bytes": 1}
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, toy_documents: list[Document]) -> Path:
    """300 documents with distinct scores, 3 of them empty, in two files."""
    scores = np.random.default_rng(3).permutation(300) / 7 - 5
    documents = [
        {**document, "edu": float(score)}
        for document, score in zip(toy_documents, scores, strict=True)
    ]
    for row in (0, 77, 299):
        documents[row]["text"] = ""
    folder = tmp_path_factory.mktemp("scored")
    write_jsonl(folder / "a.jsonl", documents[:190])
    write_jsonl(folder / "b.jsonl", documents[190:])
    return folder


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory, corpus: Path, toy_recipe: MakeRecipe
) -> StoreDir:
    out = tmp_path_factory.mktemp("binned") / "store"
    run([corpus], out, make_recipe(toy_recipe))
    return StoreDir(out)


def labels(store: StoreDir, agent: str = "edu") -> tuple[list[int], list[float]]:
    """Return the categories and scores of all rows."""
    categories: list[int] = []
    scores: list[float] = []
    for path in sorted(store.memory(agent).glob("*.parquet")):
        table = pq.read_table(path)
        categories += table["category"].to_pylist()
        scores += table["score"].to_pylist()
    return categories, scores


def test_bins_hold_equal_counts_and_rising_scores(store: StoreDir) -> None:
    categories, scores = labels(store)
    assert len(categories) == 300
    assert [row for row, c in enumerate(categories) if c == NO_CATEGORY] == [0, 77, 299]
    pairs = [(c, s) for c, s in zip(categories, scores, strict=True) if c != NO_CATEGORY]
    found = np.bincount([c for c, _ in pairs])
    assert sorted(found.tolist()) == [59, 59, 59, 60, 60]
    by_score = [c for c, _ in sorted(pairs, key=lambda pair: pair[1])]
    assert by_score == sorted(by_score)
    cells = Store(store.root).cells
    assert cells.categories["edu"] == ("q1", "q2", "q3", "q4", "q5")
    assert cells.num_docs_C.sum() == 297


def test_anyone_can_read_which_scores_a_category_means(store: StoreDir) -> None:
    edges = read_json(store.manifest)["spec"]["agents"]["edu"]["edges"]
    assert read_json(store.manifest)["spec"]["agents"]["domain"]["edges"] is None
    for path in store.memory("edu").iterdir():
        value = json.loads(pq.read_metadata(path).metadata[b"mads"])
        assert (value["edges"], value["unbinned"]) == (edges, False)
    bounds = [-np.inf, *edges, np.inf]
    for category, score in zip(*labels(store), strict=True):
        if category != NO_CATEGORY:
            assert bounds[category] <= score < bounds[category + 1]
    assert not store.scores("edu").exists()


def test_the_number_of_workers_does_not_matter(
    store: StoreDir, corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    run([corpus], tmp_path / "store", make_recipe(toy_recipe, workers=2))
    assert content(tmp_path / "store") == content(store.root)


def test_a_second_call_changes_nothing(
    store: StoreDir, corpus: Path, toy_recipe: MakeRecipe
) -> None:
    before = content(store.root)
    result = run([corpus], store.root, make_recipe(toy_recipe))
    assert (result.new_shards, result.new_index) == (0, False)
    assert content(store.root) == before


@pytest.mark.parametrize("after", [0, 1, 2, 3, 9, 10])
def test_killed_while_it_bins_it_goes_on(
    store: StoreDir,
    corpus: Path,
    toy_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    """Killed before the edges, after them, after each memory, before the scores are deleted."""
    steps = 0

    def killing(work: Any) -> Any:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps > after:
                raise KeyboardInterrupt
            return work(*arguments, **options)

        return step

    out = tmp_path / "store"
    with monkeypatch.context() as patch:
        for name in ("quantile_edges", "write_spec", "write_memory"):
            patch.setattr(module, name, killing(getattr(module, name)))
        patch.setattr(shutil, "rmtree", killing(shutil.rmtree))
        with pytest.raises(KeyboardInterrupt):
            run([corpus], out, make_recipe(toy_recipe))
    assert StoreDir(out).scores("edu").exists()
    run([corpus], out, make_recipe(toy_recipe, workers=1))
    assert content(out) == content(store.root)


def test_a_deleted_memory_is_scored_and_binned_with_the_same_edges(
    store: StoreDir, corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    shutil.copytree(store.root, tmp_path / "store")
    StoreDir(tmp_path / "store").memory_shard("edu", 2).unlink()
    assert run([corpus], tmp_path / "store", make_recipe(toy_recipe)).new_shards == 1
    assert content(tmp_path / "store") == content(store.root)


def test_an_agent_with_quantiles_is_added_to_a_store(
    store: StoreDir, corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    without = make_recipe(toy_recipe)
    run([corpus], tmp_path / "s", replace(without, agents={"domain": without.agents["domain"]}))
    run([corpus], tmp_path / "s", without)
    for name in ("cells", "order"):
        found = getattr(StoreDir(tmp_path / "s").index(2), name).read_bytes()
        assert found == getattr(store.index(1), name).read_bytes()
    assert labels(StoreDir(tmp_path / "s")) == labels(store)


def test_damaged_scores_are_refused_and_exchanged_ones_made_anew(
    store: StoreDir,
    corpus: Path,
    toy_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    out = StoreDir(tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr(annotate_module, "bin_scores", killed)
        with pytest.raises(KeyboardInterrupt):
            run([corpus], out.root, make_recipe(toy_recipe))
    one, two = (out.scores_shard("edu", shard) for shard in (1, 2))
    assert read_header(one).unbinned
    whole = one.read_bytes()
    one.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    with pytest.raises(DataError, match=r"shard-00001\.parquet is not the file that was written"):
        run([corpus], out.root, make_recipe(toy_recipe))
    one.write_bytes(two.read_bytes())
    run([corpus], out.root, make_recipe(toy_recipe))
    assert content(out.root) == content(store.root)


@pytest.mark.parametrize("change", [{"quantiles": 4}, {"field": "quality"}])
def test_other_bins_are_another_memory(
    store: StoreDir, corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path, change: dict[str, Any]
) -> None:
    shutil.copytree(store.root, tmp_path / "store")
    result = run([corpus], tmp_path / "store", make_recipe(toy_recipe, **change))
    assert (result.generation, result.new_agents) == (2, ["edu"])
    old, new = (Store(tmp_path / "store", number).spec.agents["edu"] for number in (1, 2))
    assert old.folder == "edu" != new.folder
    assert old.edges != new.edges


def test_edges_stay_when_the_corpus_grows(
    store: StoreDir, corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    shutil.copytree(corpus, tmp_path / "corpus")
    shutil.copytree(store.root, tmp_path / "store")
    more = [{"text": f"more {i}", "meta": {"domain": "news"}, "edu": 1000 + i} for i in range(10)]
    write_jsonl(tmp_path / "corpus" / "c.jsonl", more)
    before = Store(store.root).spec.agents["edu"].edges
    result = run([tmp_path / "corpus"], tmp_path / "store", make_recipe(toy_recipe))
    assert (result.generation, result.new_files, result.new_shards) == (2, 1, 1)
    grown = Store(tmp_path / "store")
    assert grown.spec.agents["edu"].edges == before
    assert grown.memory("edu", len(grown.spec.shards) - 1).category_N.tolist() == [4] * 10


@pytest.mark.parametrize(
    ("scores", "counts"),
    [
        ([1.0] * 20, [20]),
        ([0.0] * 14 + [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [14, 0, 0, 2, 4]),
        ([5.0] * 12 + list(range(-8, 0)), [4, 4, 0, 0, 12]),
    ],
)
def test_ties_make_fewer_bins(
    tmp_path: Path, toy_recipe: MakeRecipe, scores: list[float], counts: list[int]
) -> None:
    documents = [{"text": f"text {i}", "edu": score} for i, score in enumerate(scores)]
    write_jsonl(tmp_path / "c.jsonl", documents)
    recipe = toy_recipe(agents={"edu": QUANTILES})
    run([tmp_path / "c.jsonl"], tmp_path / "store", recipe)
    categories, _ = labels(StoreDir(tmp_path / "store"))
    assert np.bincount(categories).tolist() == counts


def test_what_has_no_score_is_refused_or_goes_to_other(
    tmp_path: Path, toy_recipe: MakeRecipe
) -> None:
    documents: list[Document] = [{"text": f"text {i}", "edu": i} for i in range(10)]
    documents += [{"text": "none"}, {"text": "null", "edu": None}, {"text": "word", "edu": "high"}]
    write_jsonl(tmp_path / "c.jsonl", documents)
    names = ["low", "high"]
    agent = QUANTILES | {"quantiles": 2, "categories": names}
    with pytest.raises(DataError, match="holds no value, which is no number; the categories are"):
        run([tmp_path / "c.jsonl"], tmp_path / "refused", toy_recipe(agents={"edu": agent}))
    recipe = toy_recipe(agents={"edu": agent | {"other": "low"}})
    run([tmp_path / "c.jsonl"], tmp_path / "store", recipe)
    store = Store(tmp_path / "store")
    assert store.spec.agents["edu"].edges == (5,)  # the middle of the ten scores
    assert labels(store.dir)[0] == [0] * 5 + [1] * 5 + [0] * 3
    assert store.cells.categories["edu"] == ("low", "high")


def test_a_corpus_without_any_score_has_one_bin(tmp_path: Path, toy_recipe: MakeRecipe) -> None:
    write_jsonl(tmp_path / "c.jsonl", [{"text": "a", "edu": None}, {"text": "b"}])
    run(
        [tmp_path / "c.jsonl"],
        tmp_path / "s",
        toy_recipe(agents={"e": QUANTILES | {"other": "q2"}}),
    )
    assert labels(StoreDir(tmp_path / "s"), "e")[0] == [1, 1]


def test_a_score_that_is_not_finite_is_refused(tmp_path: Path, toy_recipe: MakeRecipe) -> None:
    write_jsonl(tmp_path / "c.jsonl", [{"text": "a", "edu": float("nan")}])
    agent = QUANTILES | {"other": "q1"}
    with pytest.raises(DataError, match="field 'edu' holds nan, which is not a finite number"):
        run([tmp_path / "c.jsonl"], tmp_path / "store", toy_recipe(agents={"edu": agent}))


def test_the_shipped_quality_agent_bins_by_quantiles_too(
    tmp_path: Path, toy_recipe: MakeRecipe, toy_documents: list[Document]
) -> None:
    write_jsonl(tmp_path / "c.jsonl", toy_documents)
    recipe = toy_recipe(agents={"quality": {"quantiles": 3}})
    run([tmp_path / "c.jsonl"], tmp_path / "store", recipe)
    assert np.bincount(labels(StoreDir(tmp_path / "store"), "quality")[0]).tolist() == [100] * 3
    with pytest.raises(UsageError, match=r"agents\.topic\.quantiles: the model 'topic' is a class"):
        run([tmp_path / "c.jsonl"], tmp_path / "t", toy_recipe(agents={"topic": {"quantiles": 3}}))
