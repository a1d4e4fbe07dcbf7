"""A run whose cursors stand within documents: all that starts from it, and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import planted
import pyarrow.parquet as pq
import pytest
from command import mads
from run.watching import Quiet, facts

from mads.errors import DataError, Interrupted
from mads.files import read_sealed_json, write_sealed_json
from mads.report.explain import explain
from mads.run.loop import train
from mads.run.reader import Run, followed
from mads.selection.plan import Cursors
from mads.selection.plan_file import read_plan
from mads.store.store import Store

PART = 16
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("parts") / "run"
    recipe = planted.recipe(folder, steps=20, part_tokens=PART, checkpoint_every=100)
    train(Store(folder / "store"), out, recipe, Quiet())
    return out


def places(store: Store, cell: int) -> tuple[list[int], np.ndarray]:
    """Return a cell's documents in its order, and the tokens before each and after the last."""
    first, num = int(store.cells.first_row_C[cell]), int(store.cells.num_docs_C[cell])
    rows = store.order.rows(np.arange(first, first + num), ["doc", "num_tokens"])
    return rows["doc"].tolist(), np.cumsum([0, *rows["num_tokens"].tolist()])


def test_rounds_read_on_where_the_one_before_stopped(folder: Path, run: Path) -> None:
    """Over all rounds each cell's tokens are its documents', in order and without a gap."""
    store, last = Store(folder / "store"), Run(run).last_round()
    tables = [
        one.selection(["doc", "cell", "first_token", "num_tokens"]) for one in Run(run).rounds
    ]
    rows = [row for table in tables for row in table.to_pylist()]
    cursors = last.cursors(store)
    assert cursors.inside_C.max() > 0
    for cell in range(len(store.cells)):
        docs, before = places(store, cell)
        at = 0
        for row in rows:
            if row["cell"] == cell:
                place = int(before[docs.index(row["doc"])]) + row["first_token"]
                assert place == at % before[-1]
                assert row["num_tokens"] <= PART
                at += row["num_tokens"]
        assert at == cursors.passes_C[cell] * before[-1] + cursors.tokens_C[cell]


@pytest.mark.parametrize("stop", [7, 10])
def test_a_stopped_run_goes_on_within_documents(
    folder: Path, run: Path, tmp_path: Path, stop: int
) -> None:
    store = Store(folder / "store")
    recipe = planted.recipe(folder, steps=20, part_tokens=PART, checkpoint_every=100)
    with pytest.raises(Interrupted):
        train(store, tmp_path / "run", recipe, Quiet(stop_after=stop))
    train(store, tmp_path / "run", recipe, Quiet())
    assert facts(tmp_path / "run") == facts(run)


def test_a_document_that_was_begun_is_selected_from_its_start(
    folder: Path, run: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Select goes on with whole documents; explain says the same of what comes next."""
    store, recipe = Store(folder / "store"), Run(run).recipe
    cursors = Run(run).last_round().cursors(store)
    whole = followed(store, run, None, recipe)[2]
    assert whole.row_C.tolist() == cursors.row_C.tolist()
    arguments = ("--store", folder / "store", "--run", run, "--tokens", "6000")
    for unit in (("--tokens", "6000"), ("--docs", "40")):
        out = tmp_path / unit[0][2:]
        assert mads(capsys, "select", *arguments[:-2], *unit, "--out", out)[0] == 0
        table = pq.read_table(out / "selection.parquet")
        assert "first_token" not in table.column_names
        for row in table.to_pylist():
            reader, place = store.tokens(row["doc"])
            assert row["num_tokens"] == reader.length(place)
        for cell in np.unique(table["cell"].to_numpy()).tolist():
            docs, before = places(store, cell)
            assert whole.tokens_C[cell] == before[cursors.row_C[cell]]
            mine = [row["doc"] for row in table.to_pylist() if row["cell"] == cell]
            assert mine[0] == docs[cursors.row_C[cell]]
            assert explain(store, run, mine[0]).docs_before_it == 0
    theta = ("--theta", "kind=2", "--json")
    code, out_text, _ = mads(capsys, "what-if", *arguments, *theta)
    assert code == 0
    assert json.loads(out_text)["budget_tokens"] == 6000


def test_explain_counts_the_tokens_of_a_document(folder: Path, run: Path, capsys: Capture) -> None:
    store = Store(folder / "store")
    cursors: Cursors = Run(run).last_round().cursors(store)
    cell = int(np.argmax(cursors.inside_C))
    doc = places(store, cell)[0][int(cursors.row_C[cell])]
    found = explain(store, run, doc)
    read = sum(entry.tokens for entry in found.rounds)
    inside = int(cursors.inside_C[cell])
    assert read == cursors.passes_C[cell] * found.num_tokens + inside
    assert inside < found.num_tokens
    code, _, err = mads(capsys, "explain", folder / "store", doc, "--run", run)
    assert code == 0
    assert "tokens" in err


def test_a_part_of_a_rounds_plan_has_whole_documents(
    folder: Path, run: Path, tmp_path: Path, capsys: Capture
) -> None:
    """And says how many tokens these have; a part of the part is one too."""
    store, plan = Store(folder / "store"), Run(run).last_round().plan(Store(folder / "store"))
    source, docs, tokens = run / "rounds" / "0003" / "plan.json", 0, 0
    for index in range(3):
        out = tmp_path / str(index)
        arguments = ("--store", folder / "store", "--plan", source, "--shard", f"{index}/3")
        assert mads(capsys, "part", *arguments, "--out", out)[0] == 0
        table = pq.read_table(out / "selection.parquet")
        lengths = [
            store.tokens(doc)[0].length(store.tokens(doc)[1]) for doc in table["doc"].to_pylist()
        ]
        assert table["num_tokens"].to_pylist() == lengths
        own = read_sealed_json(out / "plan.json", "")
        assert (own["num_docs"], own["num_tokens"]) == (len(lengths), sum(lengths))
        docs, tokens = docs + len(lengths), tokens + sum(lengths)
        again = ("--store", folder / "store", "--plan", out / "plan.json", "--shard", "0/2")
        assert mads(capsys, "part", *again, "--out", tmp_path / f"{index}-0")[0] == 0
    assert docs == plan.num_docs
    assert tokens > plan.num_tokens


def test_two_rounds_are_compared_by_documents_and_tokens(run: Path, capsys: Capture) -> None:
    rounds = [run / "rounds" / f"000{number}" for number in (2, 3)]
    tables = [pq.read_table(one / "selection.parquet") for one in rounds]
    code, out, _ = mads(capsys, "diff", *rounds, "--json")
    assert code == 0
    found = json.loads(out)
    assert set(found["composition"]) == {"kind", "quality", "coin"}
    assert found["tokens"] == [sum(table["num_tokens"].to_pylist()) for table in tables]
    one, two = (set(table["doc"].to_pylist()) for table in tables)
    assert found["docs"] == {
        "both": len(one & two),
        "only_a": len(one - two),
        "only_b": len(two - one),
    }


@pytest.mark.parametrize(
    ("name", "by", "message"),
    [
        ("inside", 10**6, r"cursors\.inside\[\d+\] is 10\d+, expected 0 to"),
        ("tokens", 1, r"ranges\[\d+\] ends before row \d+ and token \d+, expected \d+ and \d+, wh"),
        ("passes", 1, r"ranges\[\d+\] ends before row"),
    ],
)
def test_a_plan_whose_cursors_do_not_fit_is_refused(
    folder: Path, run: Path, tmp_path: Path, name: str, by: int, message: str
) -> None:
    store, plan = Store(folder / "store"), Run(run).last_round().plan(Store(folder / "store"))
    value = read_sealed_json(run / "rounds" / "0003" / "plan.json", "")
    inside = {part.cell for part in plan.ranges} & set(np.flatnonzero(plan.cursors.inside).tolist())
    value["cursors"][name][min(inside)] += by
    path = tmp_path / "plan.json"
    write_sealed_json(path, value)
    with pytest.raises(DataError, match=message):
        read_plan(path, store)


def test_a_plan_of_the_old_form_is_refused(folder: Path, run: Path, tmp_path: Path) -> None:
    value = read_sealed_json(run / "rounds" / "0003" / "plan.json", "")
    del value["cursors"]["inside"]
    write_sealed_json(tmp_path / "plan.json", value)
    with pytest.raises(DataError, match=r"cursors\.inside: missing"):
        read_plan(tmp_path / "plan.json", Store(folder / "store"))
