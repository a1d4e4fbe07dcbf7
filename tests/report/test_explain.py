"""explain, what-if and diff, on a run of the planted world."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import planted
import pyarrow.parquet as pq
import pytest

from mads import cli
from mads.errors import UsageError
from mads.report.explain import explain, find_document
from mads.report.what_if import scaled_theta
from mads.run.loop import train
from mads.selection.composition import composition
from mads.store.store import Store
from mads.types import Cells, ConsoleState, doc_id


class Silent:
    def step(self, record: Any) -> None: ...
    def round(self, record: Any) -> None: ...
    def note(self, text: str) -> None: ...


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("planted")
    store = Store(planted.build(path))
    train(store, path / "run", planted.recipe(path, steps=20), Silent())
    return path


def mads(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command line in this process; return exit code, stdout, stderr."""
    code = 0
    before = sys.argv
    sys.argv = ["mads", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = before
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_explain_agrees_with_the_files(folder: Path) -> None:
    store = Store(folder / "store")
    picked = pq.read_table(folder / "run" / "rounds" / "0002" / "selection.parquet").to_pylist()
    found = explain(store, folder / "run", picked[0]["doc"])
    assert found["rounds"][2]["selected"] == 1
    assert found["rounds"][2]["steps"] == [10]
    plan = json.loads((folder / "run" / "rounds" / "0003" / "plan.json").read_text())
    mine = [part for part in plan["ranges"] if part["cell"] == found["cell"]]
    taken = sum(part["stop_row"] - part["start_row"] for part in mine)
    assert found["cell_docs_last_round"] == taken
    assert found["cell"] == picked[0]["cell"]
    assert found["rounds"][2]["score"] >= picked[0]["score"]  # before decay
    line = (folder / "corpus.jsonl").read_text().splitlines()[found["row"]]
    document = json.loads(line)
    assert found["labels"]["kind"]["category"] == document["kind"]
    assert found["labels"]["coin"]["category"] == document["coin"]
    chosen = {row["doc"] for row in picked}
    other = next(d for d in range(100) if d not in chosen)
    assert explain(store, folder / "run", other)["rounds"][2]["selected"] == 0
    for number, entry in enumerate(found["rounds"]):
        state = json.loads(
            (folder / "run" / "rounds" / f"{number:04d}" / "console.json").read_text()
        )
        score = sum(state["theta"][a] * entry["weights"][a] for a in state["theta"])
        assert entry["score"] == pytest.approx(score)
        assert 1 <= entry["rank"] <= entry["cells"] == len(store.cells)


def test_the_place_in_the_queue_is_kept(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The document that explain says is next in its cell is the one that is selected next."""
    store = Store(folder / "store")
    firsts = [
        doc for doc in range(180) if explain(store, folder / "run", doc)["docs_before_it"] == 0
    ]
    assert len(firsts) == len(store.cells)
    arguments = ("--store", folder / "store", "--run", folder / "run", "--fraction", "0.9")
    assert mads(capsys, "select", *arguments, "--out", tmp_path / "next")[0] == 0
    picked = set(pq.read_table(tmp_path / "next" / "selection.parquet")["doc"].to_pylist())
    by_cell = {explain(store, folder / "run", doc)["cell"] for doc in picked}
    assert {
        explain(store, folder / "run", doc)["cell"] for doc in firsts if doc in picked
    } == by_cell


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
    for row in picked.to_pylist():
        steps.setdefault(row["doc"], []).append(row["step"])
    for doc in list(steps)[::20]:
        found = explain(store, tmp_path / "run", doc)
        assert found["rounds"][0]["steps"] == steps[doc]
        assert found["rounds"][0]["selected"] == len(steps[doc])
    doc = max(steps, key=lambda key: len(steps[key]))
    code, _, err = mads(capsys, "explain", folder / "store", doc, "--run", tmp_path / "run")
    assert code == 0
    shown = ", ".join(map(str, steps[doc][:2]))
    assert f"{shown}, +{len(steps[doc]) - 2}" in err
    assert "Rounds (rank: of its cell; steps: from which on it was read)" in err


def test_documents_are_found_by_number_and_by_file_and_row(folder: Path) -> None:
    store = Store(folder / "store")
    assert find_document(store, "17") == find_document(store, "corpus.jsonl:17") == doc_id(0, 17)
    for text, message in (
        ("999", "the store has no document 999"),
        (str(1 << 40), "the store has no document"),
        ("corpus.jsonl", "neither a document's number nor file:row"),
        (
            "corpus.json:3",
            "does not name one corpus file of this store; did you mean 'corpus.jsonl'",
        ),
        ("corpus.jsonl:180", r"corpus.jsonl has 180 rows \(0 to 179\); found row 180"),
    ):
        with pytest.raises(UsageError, match=message):
            find_document(store, text)


def test_scaled_theta_by_hand() -> None:
    state = ConsoleState(1, {"a": {}, "b": {}}, {"a": 0.25, "b": 0.75})
    assert scaled_theta(state, "a=3").theta == pytest.approx({"a": 0.5, "b": 0.5})
    assert scaled_theta(state, "a=1, b=0").theta == pytest.approx({"a": 1.0, "b": 0.0})
    for text, message in (
        ("c=1", "'c' is no agent"),
        ("a", "not of the form agent=factor"),
        ("a=-1", "not of the form agent=factor"),
        ("a=x", "not of the form agent=factor"),
        ("a=0,b=0", "leaves no agent"),
    ):
        with pytest.raises(UsageError, match=message):
            scaled_theta(state, text)


def test_composition_by_hand() -> None:
    cells = Cells(
        agents=("q", "t"),
        categories={"q": ("lo", "hi"), "t": ("x",)},
        category_CA=np.array([[0, 0], [1, 0]], np.uint16),
        num_docs_C=np.array([1, 1]),
        num_tokens_C=np.array([30, 10]),
        first_row_C=np.array([0, 1]),
    )
    found = composition(cells, cells.num_tokens_C, np.array([10.0, 10.0]))
    assert found == {"q": {"lo": [0.75, 0.5], "hi": [0.25, 0.5]}, "t": {"x": [1.0, 1.0]}}


def test_what_if_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.rglob("*"))
    base = ("select", "--store", folder / "store", "--run", folder / "run", "--tokens", "2K")
    code, out, _ = mads(capsys, *base, "--what-if", "kind=4,quality=4,coin=0", "--json")
    assert code == 0
    share = json.loads(out)["composition"]["kind"]
    console = json.loads((folder / "run" / "rounds" / "0003" / "console.json").read_text())
    best = max(console["weights"]["kind"], key=lambda name: console["weights"]["kind"][name])
    assert share[best][1] > share[best][0]
    in_docs = (*base[:-2], "--docs", "20", "--what-if", "kind=4,quality=4,coin=0", "--json")
    code, out, _ = mads(capsys, *in_docs)
    assert code == 0
    value = json.loads(out)
    assert value["budget_docs"] == 20
    assert sum(pair[1] for pair in value["composition"]["kind"].values()) == pytest.approx(1)
    code, _, err = mads(capsys, *base, "--what-if", "kind=4")
    assert code == 0
    assert "kind: share of tokens" in err
    assert sorted(folder.rglob("*")) == before


def test_explain_and_diff_for_people(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = mads(
        capsys, "explain", folder / "store", "corpus.jsonl:4", "--run", folder / "run"
    )
    assert code == 0
    for expected in ("row 4 of", "Labels", "Rounds", "of them come before it; the last round took"):
        assert expected in err
    rounds = folder / "run" / "rounds"
    code, out, _ = mads(capsys, "diff", rounds / "0000", rounds / "0003", "--json")
    found = json.loads(out)
    assert code == 0
    picked = [
        set(pq.read_table(rounds / n / "selection.parquet")["doc"].to_pylist())
        for n in ("0000", "0003")
    ]
    assert found["docs"] == {
        "both": len(picked[0] & picked[1]),
        "only_a": len(picked[0] - picked[1]),
        "only_b": len(picked[1] - picked[0]),
    }
    assert sum(pair[1] for pair in found["composition"]["kind"].values()) == pytest.approx(1)
    code, _, err = mads(capsys, "diff", rounds / "0000", rounds / "0003")
    assert code == 0
    assert "documents are in both" in err
    pair = (rounds / "0000" / "console.json", rounds / "0003" / "console.json")
    code, out, _ = mads(capsys, "diff", *pair, "--json")
    assert json.loads(out)["weights"]["kind"]["useful"][0] == 1.0
    code, _, err = mads(capsys, "diff", *pair)
    assert code == 0
    assert "w kind" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["diff", "/nowhere", "/nowhere"], "/nowhere does not exist"),
        (["diff", "{run}", "{run}/recipe.toml"], "give two folders of selections, or two console"),
        (
            ["select", "--store", "{store}", "--run", "{run}"],
            "give one of --tokens 5M, --docs 10K and --fraction 0.1.",
        ),
        (
            ["select", "--store", "{store}", "--run", "{run}", "--fraction", "2", "--out", "x"],
            "--fraction 2: expected more than 0 and at most 1",
        ),
        (
            ["select", "--store", "{store}", "--run", "{run}", "--tokens", "5"],
            "give either --out DIR, or --what-if",
        ),
        (
            [
                "select",
                "--store",
                "{store}",
                "--run",
                "{run}",
                "--tokens",
                "5",
                "--texts",
                "--what-if",
                "kind=2",
            ],
            "give either --out DIR, or --what-if, which writes nothing",
        ),
    ],
)
def test_usage(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    places = {"store": folder / "store", "run": folder / "run"}
    code, out, err = mads(capsys, *(text.format(**places) for text in arguments))
    assert code == 2
    assert out == ""
    assert message in err
