"""Learned influence in the loop finds what no category shows, and loses not one use."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import planted
import pytest
from command import mads
from run.watching import Quiet, facts

from mads.annotate.annotate import annotate
from mads.config import InfluenceConfig, Recipe
from mads.errors import DataError, Interrupted, UsageError
from mads.files import read_sealed_json, write_sealed_json
from mads.layout import RunDir
from mads.recipe import recipe_from_table, to_table
from mads.run.loop import train
from mads.run.reader import Run, followed
from mads.selection.plan import Cursors
from mads.selection.uses import prior_uses, uses_at
from mads.store.store import Store

KINDS = ("useful", "shuffled", "neutral")
GROUPS = {"useful": "english", "shuffled": "english", "neutral": "other"}
"""What the agents see of each kind: useful documents have their words in order."""
EVERY = 2  # rounds: refreshed with rounds 2 and 4 of 0 to 4
Capture = pytest.CaptureFixture[str]


def documents() -> list[dict[str, Any]]:
    found = planted.documents(each=100, kinds=KINDS)
    return [{**document, "group": GROUPS[document["kind"]]} for document in found]


def recipe(folder: Path, every: int = EVERY, **sections: dict[str, Any]) -> Recipe:
    """Return a recipe whose agents know the language, but not the order of words."""
    training = {"steps": 40, "first_update": 8, "update_every": 8, "checkpoint_every": 8}
    training |= {"part_tokens": 64}  # less than a document has
    table = to_table(planted.recipe(folder, kinds=KINDS, **training))
    table["agents"] = {
        "group": planted.column("group", ["english", "other"]),
        "coin": planted.column("coin", ["heads", "tails"]),
    }
    table["rewards"] |= {"probes_per_category": 80, "competence": False}
    table["influence"]["every"] = every
    for name, values in sections.items():
        table[name] |= values
    return recipe_from_table(table, "the world of hidden quality")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hidden")
    lines = (json.dumps(document) + "\n" for document in documents())
    (path / "corpus.jsonl").write_text("".join(lines))
    annotate([path / "corpus.jsonl"], path / "store", recipe(path), lambda *_: None)
    return path


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return Store(folder / "store")


@pytest.fixture(scope="module")
def told() -> Quiet:
    return Quiet()


@pytest.fixture(scope="module")
def finished(folder: Path, store: Store, told: Quiet) -> Path:
    before = content(folder / "store")
    train(store, folder / "finished", recipe(folder), told)
    assert content(folder / "store") == before  # which others read
    return folder / "finished"


@pytest.fixture(scope="module")
def without_it(folder: Path, store: Store) -> Path:
    train(store, folder / "without", recipe(folder, every=0), Quiet())
    return folder / "without"


@pytest.fixture
def at_round_3(finished: Path, tmp_path: Path) -> Path:
    """A run that stands at the end of round 3; the next one begins with a fit."""
    root = Path(shutil.copytree(finished, tmp_path / "run"))
    (root / "checkpoints" / "latest").write_text("step-00000032\n")
    return root


def content(folder: Path) -> dict[str, str]:
    """Return what is in each file; a model's card has a date and a path."""
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("influence.json", ".lock")
    }


def whole(run: Path) -> dict[str, Any]:
    return {**facts(run), "generations": content(run / "generations")}


def share_of_useful(run: Path, number: int) -> float:
    """Return the useful part of a round's English tokens."""
    kind = np.array([document["kind"] for document in documents()])
    table = Run(run).rounds[number].selection(["doc", "num_tokens"])
    kind_N, tokens_N = kind[table["doc"].to_numpy().astype(int)], table["num_tokens"].to_numpy()
    useful, shuffled = (float(tokens_N[kind_N == k].sum()) for k in ("useful", "shuffled"))
    return useful / (useful + shuffled)


def test_quality_that_no_category_shows_is_found(
    finished: Path, without_it: Path, told: Quiet
) -> None:
    with_it, without = (
        np.mean([share_of_useful(run, number) for number in (3, 4)])
        for run in (finished, without_it)
    )
    assert without < 0.65  # about as in the corpus
    assert with_it > without + 0.15
    made = [record for record in told.rounds if record.refresh is not None]
    assert [record.round for record in made] == [2, 4]
    for record in made:
        assert record.refresh is not None
        assert record.refresh.spearman is not None
        assert record.refresh.documents + record.refresh.held_out >= 160  # of each language
    assert made[1].refresh is not None
    assert made[1].refresh.rounds == (1, 2, 3)
    weights = made[-1].weights["influence"]
    assert list(weights) == ["r1", "r2", "r3", "r4", "r5"]
    assert weights["r5"] > weights["r1"]
    assert [note for note in told.notes if "round 4: influence was fitted to" in note]


def test_nothing_of_it_is_there_when_it_is_off(without_it: Path) -> None:
    assert not (without_it / "generations").exists()
    lines = (without_it / "metrics.jsonl").read_text()
    assert "influence" not in lines
    assert "refresh" not in lines


def test_every_use_of_every_document_is_counted(store: Store, finished: Path) -> None:
    """A count for each document, from the rows that rounds have read alone."""
    lengths = {d: int(n) for d, n in enumerate(store.documents(0).num_tokens_N)}
    uses, inside = dict.fromkeys(lengths, 0), dict.fromkeys(lengths, 0)
    refresh, seen, begun = 0, set[int](), 0
    for one in Run(finished).rounds:
        own = one.store(store)
        if own.refresh != refresh:  # documents that were begun are begun anew
            begun += sum(tokens > 0 for tokens in inside.values())
            refresh, inside = own.refresh, dict.fromkeys(lengths, 0)
            assert refresh == one.number
        columns = ["doc", "first_token", "num_tokens", "times_selected"]
        for row in one.selection(columns).to_pylist():
            doc = row["doc"]
            assert (row["first_token"], row["times_selected"]) == (inside[doc], uses[doc])
            inside[doc] = (inside[doc] + row["num_tokens"]) % lengths[doc]
            uses[doc] += inside[doc] == 0
        rows = np.arange(300)
        found = uses_at(own.cells, one.cursors(store), rows)
        told = dict(zip(own.order.docs(rows).tolist(), found.tolist(), strict=True))
        assert told == uses
        seen |= set(own.cells.prior_uses.tolist())
    assert begun > 0
    assert len(seen) > 1  # cells were split by them
    assert max(uses.values()) > 1


def test_prior_uses_are_those_of_each_document(store: Store) -> None:
    """Cursors anywhere: (prior uses, passes, row) of a document's cell, one document at a time."""
    cells = store.cells
    rng = np.random.default_rng(0)
    row_C = np.array([int(rng.integers(n)) for n in cells.num_docs_C])
    passes_C = rng.integers(0, 4, len(cells))
    nothing_C = np.zeros(len(cells), np.int64)
    found = prior_uses(store, Cursors(passes_C, row_C, nothing_C, nothing_C))
    for cell in range(len(cells)):
        first, size = int(cells.first_row_C[cell]), int(cells.num_docs_C[cell])
        docs = store.order.docs(np.arange(first, first + size)).tolist()
        for place, doc in enumerate(docs):
            expected = passes_C[cell] + (place < row_C[cell])
            assert found.values[found.place_R[doc]] == expected


KILLED = {
    "before the fit": "mads.run.refresh.fit_influence",
    "before the labels": "mads.run.refresh.quantile_edges",
    "before the order": "mads.store.build.write_order",
    "before the seals": "mads.run.refresh.write_refreshed",
    "before the rewards": "mads.run.circle.gather",
    "before the selection": "mads.run.circle.select_round",
    "before the plan": "mads.selection.plan_file.write_plan",
}


@pytest.mark.parametrize("place", KILLED)
def test_a_killed_refresh_is_made_anew(
    folder: Path,
    store: Store,
    finished: Path,
    at_round_3: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(KILLED[place], killed)
        with pytest.raises(KeyboardInterrupt):
            train(store, at_round_3, recipe(folder), Quiet())
    assert not RunDir(at_round_3).round(4).plan.exists()
    train(Store(folder / "store"), at_round_3, recipe(folder), Quiet())
    assert whole(at_round_3) == whole(finished)


@pytest.mark.parametrize("stop", [12, 20, 34])
def test_a_stopped_run_goes_on_with_its_own_generation(
    folder: Path, store: Store, finished: Path, tmp_path: Path, stop: int
) -> None:
    with pytest.raises(Interrupted):
        train(store, tmp_path / "run", recipe(folder), Quiet(stop_after=stop))
    train(Store(folder / "store"), tmp_path / "run", recipe(folder), Quiet())
    assert whole(tmp_path / "run") == whole(finished)


def restate(run: Path, **facts: object) -> None:
    """Change what a generation says of itself, with a right sum."""
    path = RunDir(run).refresh(2).facts
    value = read_sealed_json(path, "")
    write_sealed_json(path, {**value, "facts": {**value["facts"], **facts}})


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "resealed": (lambda run: restate(run, docs=7), r"generation\.json .*facts\.fingerprint: found"),
    "gone": (
        lambda run: RunDir(run).refresh(2).facts.unlink(),
        r"generation\.json .*checkpoint before round 2 into checkpoints/latest",
    ),
    "cells": (
        lambda run: shutil.copy(RunDir(run).refresh(4).cells, RunDir(run).refresh(2).cells),
        r"0002/cells\.parquet is not the file that was written: .*before round 2 into check",
    ),
    "of another round": (
        lambda run: shutil.copy(RunDir(run).refresh(4).facts, RunDir(run).refresh(2).facts),
        r"rounds/0003/plan\.json was made with another store: .*the run's own of round 2",
    ),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damage_is_named_and_nothing_else_is_changed(
    folder: Path, at_round_3: Path, what: str
) -> None:
    damage, message = DAMAGES[what]
    damage(at_round_3)
    before = content(at_round_3)
    with pytest.raises(DataError, match=message):
        train(Store(folder / "store"), at_round_3, recipe(folder), Quiet())
    assert content(at_round_3) == before


def test_a_generation_of_another_store_is_refused(finished: Path, tmp_path: Path) -> None:
    planted.build(tmp_path, KINDS)
    other = Store(tmp_path / "store")
    with pytest.raises(DataError, match=r"was made of another store: found .*, expected"):
        other.refreshed(RunDir(finished).refresh(2))


def test_the_same_run_has_the_same_bytes_anywhere(
    folder: Path, store: Store, finished: Path, tmp_path: Path
) -> None:
    train(store, tmp_path / "elsewhere", recipe(folder), Quiet())
    assert whole(tmp_path / "elsewhere") == whole(finished)


def test_select_explain_and_report_see_the_run_s_own_cells(
    folder: Path, store: Store, finished: Path, tmp_path: Path, capsys: Capture
) -> None:
    arguments = ("--store", folder / "store", "--run", finished, "--docs", "30")
    code, _, words = mads(capsys, "select", *arguments, "--out", tmp_path / "picked")
    assert code == 0, words
    own, _, cursors = followed(store, finished, None, Run(finished).recipe)
    assert own.refresh == 4
    rows = np.arange(300)
    uses = uses_at(own.cells, cursors, rows)
    expected = dict(zip(own.order.docs(rows).tolist(), uses.tolist(), strict=True))
    table = Run(finished).rounds[4].plan(store)
    assert table.refresh == 4
    picked = read_rows(tmp_path / "picked")
    assert {row["doc"]: row["times_selected"] for row in picked} == {
        row["doc"]: expected[row["doc"]] for row in picked
    }
    assert {row["influence"] for row in picked} <= {"r1", "r2", "r3", "r4", "r5"}
    again = mads(capsys, "select", *arguments, "--out", tmp_path / "picked", "--json")
    assert json.loads(again[1])["complete"]
    code, out, words = mads(capsys, "what-if", *arguments, "--theta", "influence=3", "--json")
    assert code == 0, words
    assert "influence" in json.loads(out)["composition"]
    plan = tmp_path / "picked" / "plan.json"
    part = ("--plan", plan, "--shard", "0/2", "--out", tmp_path / "part")
    code, _, words = mads(capsys, "part", "--store", folder / "store", *part)
    assert code == 2
    assert "follows cells that its run has made for itself" in " ".join(words.split())
    page = tmp_path / "run.html"
    code, _, words = mads(capsys, "report", finished, "--store", folder / "store", "--out", page)
    assert code == 0, words
    assert "Read by influence" in page.read_text()


def read_rows(folder: Path) -> list[dict[str, Any]]:
    from mads.layout import RoundDir
    from mads.selection.plan_file import load_plan, read_selection

    found: list[dict[str, Any]] = read_selection(
        RoundDir(folder), load_plan(RoundDir(folder).plan)
    ).to_pylist()
    return found


def test_explain_follows_a_document_from_generation_to_generation(
    folder: Path, store: Store, finished: Path, capsys: Capture
) -> None:
    rounds = Run(finished).rounds
    doc = int(rounds[4].selection(["doc"])["doc"][0].as_py())
    arguments = (folder / "store", doc, "--run", finished)
    code, out, words = mads(capsys, "explain", *arguments, "--json")
    assert code == 0, words
    found = json.loads(out)
    assert list(found["labels"]) == ["group", "coin", "influence"]
    for one, entry in zip(rounds, found["rounds"], strict=True):
        read = one.selection(["doc", "num_tokens"]).to_pylist()
        assert entry["tokens"] == sum(row["num_tokens"] for row in read if row["doc"] == doc)
        assert ("influence" in entry["weights"]) == (one.number >= 2)
        assert (entry["uses"] > 0) <= (one.number >= 2)
    code, out, _ = mads(capsys, "explain", *arguments)
    assert code == 0


def test_other_strategies_and_policies_are_refused_at_once(folder: Path) -> None:
    table = to_table(recipe(folder)) | {"strategy": "fixed"}
    with pytest.raises(UsageError, match=r'only the strategy "console" can listen .*"fixed"'):
        recipe_from_table(table, "x")
    with pytest.raises(UsageError, match=r'selection\.policy = "random" reads no scores'):
        recipe(folder, selection={"policy": "random"})


def test_an_agent_of_the_same_name_is_refused(folder: Path, tmp_path: Path) -> None:
    agents = {"influence": planted.column("group", ["english", "other"])}
    named = recipe_from_table({**to_table(recipe(folder)), "agents": agents}, "x")
    annotate([folder / "corpus.jsonl"], tmp_path / "store", named, lambda *_: None)
    with pytest.raises(UsageError, match=r"has an agent 'influence' already, which is what"):
        train(Store(tmp_path / "store"), tmp_path / "run", named, Quiet())


def test_too_few_documents_are_told_and_the_run_goes_on(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    few = recipe(folder, rewards={"probes_per_category": 8}, training={"steps": 24})
    told = Quiet()
    train(store, tmp_path / "run", few, told)
    (note,) = (note for note in told.notes if "influence is not fitted yet" in note)
    assert "round 2" in note
    assert "documents were probed, 100 are needed. Raise rewards.probes_per_category" in note
    assert not list((tmp_path / "run").glob("generations/*"))


def test_it_waits_until_rewards_are_listened_to(folder: Path, store: Store, tmp_path: Path) -> None:
    dealt = recipe(folder, rewards={"placebo": True, "competence": True})
    told = Quiet()
    train(store, tmp_path / "run", dealt, told)
    learned = [record.round for record in told.rounds if record.feedback]
    refused = [r.round for r in told.rounds if r.feedback and "unsure" in r.feedback.guards]
    made = [record.round for record in told.rounds if record.refresh]
    assert refused
    assert all(number > min(set(learned) - set(refused), default=99) for number in made)


@pytest.mark.parametrize("rule", ["mirror", "stable", "paper"])
def test_every_rule_goes_on_with_the_new_agent(
    folder: Path, store: Store, tmp_path: Path, rule: str
) -> None:
    table = to_table(recipe(folder, training={"steps": 32}))
    table["console"] = {"rule": rule, "agents": ["group"]}
    some = replace(recipe_from_table(table, "x"), influence=InfluenceConfig(every=1, bins=3))
    told = Quiet()
    train(store, tmp_path / "run", some, told)
    assert [record.refresh is not None for record in told.rounds] == [False, False, True, True]
    last = told.rounds[-1]
    assert list(last.theta) == ["group", "influence"]  # and not the coin
    assert list(last.weights["influence"]) == ["r1", "r2", "r3"]
    assert last.feedback is not None
    assert last.feedback.rewards is not None
    assert set(last.feedback.rewards) == {"group", "influence"}
