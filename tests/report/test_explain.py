"""Explain agrees with the files of a run of the planted world."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import planted
import pyarrow.parquet as pq
import pytest
from command import mads
from report.silent import Silent

from mads.errors import UsageError
from mads.report.explain import explain, find_document
from mads.run.loop import train
from mads.store.store import Store
from mads.types import doc_id


def test_explain_agrees_with_the_files(folder: Path) -> None:
    store = Store(folder / "store")
    picked = pq.read_table(folder / "run" / "rounds" / "0002" / "selection.parquet").to_pylist()
    found = explain(store, folder / "run", picked[0]["doc"])
    assert found.rounds[2].selected == 1
    assert found.rounds[2].steps == (10,)
    plan = json.loads((folder / "run" / "rounds" / "0003" / "plan.json").read_text())
    mine = [part for part in plan["ranges"] if part["cell"] == found.cell]
    taken = sum(part["stop_row"] - part["start_row"] for part in mine)
    assert found.cell_docs_last_round == taken
    assert found.cell == picked[0]["cell"]
    assert found.rounds[2].score >= picked[0]["score"]  # before decay
    line = (folder / "corpus.jsonl").read_text().splitlines()[found.row]
    document = json.loads(line)
    assert found.labels["kind"].category == document["kind"]
    assert found.labels["coin"].category == document["coin"]
    chosen = {row["doc"] for row in picked}
    other = next(d for d in range(100) if d not in chosen)
    assert explain(store, folder / "run", other).rounds[2].selected == 0
    for number, entry in enumerate(found.rounds):
        state = json.loads(
            (folder / "run" / "rounds" / f"{number:04d}" / "console.json").read_text()
        )
        score = sum(state["theta"][a] * entry.weights[a] for a in state["theta"])
        assert entry.score == pytest.approx(score)
        assert 1 <= entry.rank <= entry.cells == len(store.cells)


def test_the_place_in_the_queue_is_kept(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The document that explain says is next in its cell is the one that is selected next."""
    store = Store(folder / "store")
    firsts = [doc for doc in range(180) if explain(store, folder / "run", doc).docs_before_it == 0]
    assert len(firsts) == len(store.cells)
    arguments = ("--store", folder / "store", "--run", folder / "run", "--fraction", "0.9")
    assert mads(capsys, "select", *arguments, "--out", tmp_path / "next")[0] == 0
    picked = set(pq.read_table(tmp_path / "next" / "selection.parquet")["doc"].to_pylist())
    by_cell = {explain(store, folder / "run", doc).cell for doc in picked}
    assert {explain(store, folder / "run", doc).cell for doc in firsts if doc in picked} == by_cell


def test_explain_tells_the_steps_of_a_selection_for_every_step(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each time that a step's selection took the document is counted, and named by its step."""
    recipe = planted.recipe(folder, steps=36, first_update=35, batch_tokens=2048)
    recipe = replace(recipe, selection=replace(recipe.selection, select_every=1, policy="top"))
    store = Store(folder / "store")
    train(store, tmp_path / "run", recipe, Silent())
    picked = pq.read_table(tmp_path / "run" / "rounds" / "0000" / "selection.parquet")
    steps: dict[int, list[int]] = {}
    tokens = Counter[int]()
    for row in picked.to_pylist():
        steps.setdefault(row["doc"], []).append(row["step"])
        tokens[row["doc"]] += row["num_tokens"]
    for doc in list(steps)[::20]:
        found = explain(store, tmp_path / "run", doc)
        assert found.rounds[0].steps == tuple(sorted(set(steps[doc])))
        assert found.rounds[0].tokens == tokens[doc]
        times = tokens[doc] / found.num_tokens
        assert math.ceil(times) <= found.rounds[0].selected < times + 2
    steps = {doc: sorted(set(mine)) for doc, mine in steps.items()}
    doc = max(steps, key=lambda key: len(steps[key]))
    code, _, err = mads(capsys, "explain", folder / "store", doc, "--run", tmp_path / "run")
    assert code == 0
    for shown in (*steps[doc][:2], f"+{len(steps[doc]) - 2}"):  # a narrow table breaks the line
        assert str(shown) in err
    assert "Rounds (rank: of its cell; steps: from which on it was read)" in err


def test_documents_are_found_by_number_and_by_file_and_row(folder: Path) -> None:
    store = Store(folder / "store")
    assert find_document(store, "17") == find_document(store, "corpus.jsonl:17") == doc_id(0, 17)
    for text, message in (
        ("999", "the store has no document 999"),
        (str(1 << 40), "the store has no document"),
        ("9" * 5000, r"'9{60}'… \(5000 characters\) is neither a document's number nor file:row"),
        ("²", "'²' is neither a document's number"),
        ("corpus.jsonl:²", "neither a document's number nor file:row"),
        ("corpus.jsonl", "neither a document's number nor file:row"),
        (
            "corpus.json:3",
            "does not name one corpus file of this store; did you mean 'corpus.jsonl'",
        ),
        ("corpus.jsonl:180", r"corpus.jsonl has 180 rows \(0 to 179\); found row 180"),
    ):
        with pytest.raises(UsageError, match=message):
            find_document(store, text)


def test_a_document_of_a_later_generation_is_said_to_be_one(folder: Path) -> None:
    store = Store(folder / "store")
    shards = store.spec.shards
    (first,) = {segment.file for shard in shards for segment in shard.segments}
    later = replace(store.spec.files[first], path="b.jsonl")
    shard = replace(shards[0], segments=(replace(shards[0].segments[0], file=first + 1),))
    files = (*store.spec.files, later)
    store.spec = replace(store.spec, files=files)
    every = replace(store.spec, shards=(*shards, shard))
    store.manifest = replace(store.manifest, spec=every)
    number = doc_id(len(shards), 0)
    for text, what in (("b.jsonl:0", "b.jsonl"), (str(number), f"document {number}")):
        message = f"^{what} came to the store with a later generation; .* seen generation 1 only"
        with pytest.raises(UsageError, match=message):
            find_document(store, text)
    with pytest.raises(UsageError, match=r"b\.jsonl has 180 rows"):
        find_document(store, "b.jsonl:180")


def test_explain_for_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = mads(
        capsys, "explain", folder / "store", "corpus.jsonl:4", "--run", folder / "run"
    )
    assert code == 0
    for expected in ("row 4 of", "Labels", "Rounds", "of them come before it; the last round took"):
        assert expected in err


def test_a_store_and_a_run_that_are_exchanged_or_files(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One message for every command that takes them."""
    store, run, file = folder / "store", folder / "run", folder / "run" / "recipe.toml"
    budget, out = ("--tokens", "1K"), ("--out", tmp_path / "out")
    for given, message in (
        ((store, store), "store is a store, expected a run."),
        ((store, file), "recipe.toml is no folder, expected a run."),
        ((run, run), "run is a run, expected a store."),
        ((file, run), "recipe.toml is no folder, expected a store."),
    ):
        both = ("--store", given[0], "--run", given[1])
        for call in (
            ("explain", given[0], "0", "--run", given[1]),
            ("select", *both, *budget, *out),
            ("what-if", *both, *budget, "--theta", "kind=1"),
            ("fit", "influence", *both, *out),
        ):
            code, _, err = mads(capsys, *call)
            assert code == 2, (call[0], message)
            assert message in err.replace("\n", " "), call[0]
    code, _, err = mads(capsys, "train", "--store", run, *out)
    assert code == 2
    assert "run is a run, expected a store." in err.replace("\n", " ")
    assert not out[1].exists()
