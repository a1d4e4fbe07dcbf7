"""What annotating has cost is kept, adds up over processes and calls, and is no part of content."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from annotate.test_annotate import SHARDS, run
from toys import MakeRecipe, write_jsonl

from mads.annotate.cost import Clock, Cost, note_cost, read_cost
from mads.annotate.sharded import annotate_part, plan
from mads.errors import DataError
from mads.layout import StoreDir


def test_costs_add_up_by_name() -> None:
    one = Cost(3, {"read": 1.0}, {"topic": 2.0})
    two = Cost(4, {"read": 0.5, "index": 4.0}, {"domain": 1.0})
    both = one + two
    assert both == Cost(7, {"read": 1.5, "index": 4.0}, {"topic": 2.0, "domain": 1.0})
    assert both.seconds == 8.5


def test_a_clock_counts_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 5.0, 7.0, 10.0, 10.5, 20.0, 20.25])
    monkeypatch.setattr("mads.annotate.cost.time.perf_counter", lambda: next(times))
    clock = Clock()
    with clock.stage("index"):
        pass
    with clock.agent("topic"):
        pass
    assert list(clock.each("read", "x")) == ["x"]  # asked twice: for x, and for the end
    assert clock.cost == Cost(0, {"index": 1.0, "read": 0.75}, {"topic": 2.0})


def test_a_store_keeps_what_all_calls_have_cost(
    toy_corpus: Path, toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    corpus, out = tmp_path / "corpus", tmp_path / "store"
    shutil.copytree(toy_corpus, corpus)
    recipe = toy_recipe(corpus={"workers": 1, "executor": "inline", **SHARDS})
    store = StoreDir(out)
    plan([corpus], out, recipe, lambda *_: None)
    assert set(read_cost(store).stages) == {"plan"}
    annotate_part([corpus], out, recipe, (1, 2), lambda *_: None)
    assert 0 < read_cost(store).rows < 300  # while others are at work
    annotate_part([corpus], out, recipe, (2, 2), lambda *_: None)
    found = read_cost(store)
    assert found.rows == 300
    assert set(found.stages) == {"plan", "read", "documents and tokens", "bins", "index"}
    assert set(found.agents) == {"domain", "quality"}
    assert all(second > 0 for second in found.agents.values())
    assert not store.costs.exists()
    run([corpus], out, recipe)
    assert read_cost(store) == found  # nothing was done
    write_jsonl(corpus / "z.jsonl", [{"text": "x", "meta": {"domain": "news"}, "quality": 1}])
    run([corpus], out, recipe)
    grown = read_cost(store)
    assert grown.rows == 301
    assert grown.seconds > found.seconds


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    store = StoreDir(tmp_path)
    note_cost(store, "a", Cost(1))
    path = store.costs / "a.json"
    path.write_text(path.read_text().replace('"rows": 1', '"rows": 2'))
    with pytest.raises(DataError, match=r"a\.json was changed: .* Delete it; only what annotating"):
        read_cost(store)
