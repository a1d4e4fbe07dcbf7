"""``mads select`` and ``mads part``: a folder that appears as a whole, once, and says for what."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import planted
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import mads

from mads.console import initial_state
from mads.console.state import console_to_json
from mads.files import LOCK, PARTIAL, read_sealed_json, write_sealed_json
from mads.layout import RoundDir
from mads.selection.plan_file import load_plan
from mads.store.store import Store

Call = tuple[object, ...]
Capture = pytest.CaptureFixture[str]


def read_lines(path: Path) -> list[str]:
    with pa.input_stream(str(path), compression="zstd") as stream:
        return stream.read().decode().splitlines()  # type: ignore[no-any-return]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def select(store: Path, console: Path) -> Call:
    return ("select", "--store", store, "--console", console, "--tokens", "2K")


def test_the_parts_of_a_selection_are_the_selection(
    store: Path, select: Call, tmp_path: Path, capsys: Capture
) -> None:
    whole = (*select[:-2], "--fraction", "0.4", "--out", tmp_path / "whole")
    assert mads(capsys, *whole, "--set", "selection.policy=top")[0] == 0
    base = ("part", "--store", store, "--plan", tmp_path / "whole" / "plan.json")
    for i in range(3):
        out = tmp_path / f"part{i}"
        call = (*base, "--shard", f"{i}/3", "--out", out, "--texts", "--corpus", store.parent)
        code, text, _ = mads(capsys, *call, "--json")
        assert code == 0
        plan = load_plan(out / "plan.json")
        assert (plan.num_docs, plan.shard) == (json.loads(text)["num_docs"], f"{i}/3")
        assert names(out) == {"selection.parquet", "plan.json", "texts"}
    tables = [pq.read_table(tmp_path / f"part{i}" / "selection.parquet") for i in range(3)]
    expected = pq.read_table(tmp_path / "whole" / "selection.parquet")
    assert pa.concat_tables(tables).to_pylist() == expected.to_pylist()
    texts = [tmp_path / f"part{i}" / "texts" / "corpus.jsonl.zst" for i in range(3)]
    lines = [line for path in texts for line in read_lines(path)]
    source = (store.parent / "corpus.jsonl").read_text().splitlines()
    rows = expected["doc"].to_numpy() & np.uint64(0xFFFFFFFF)
    assert sorted(lines) == sorted(source[int(row)] for row in rows)


def test_a_part_of_a_part_is_a_part(
    store: Path, select: Call, tmp_path: Path, capsys: Capture
) -> None:
    """What a part writes is a plan that fits the store."""
    assert mads(capsys, *select, "--out", tmp_path / "0")[0] == 0
    for number in (0, 1):
        plan = tmp_path / str(number) / "plan.json"
        call = ("part", "--store", store, "--plan", plan, "--shard", "1/2")
        assert mads(capsys, *call, "--out", tmp_path / str(number + 1))[0] == 0
    docs = [pq.read_table(tmp_path / str(n) / "selection.parquet")["doc"] for n in range(3)]
    assert docs[2].to_pylist() == docs[0].to_pylist()[-len(docs[2]) :]


def test_the_same_call_again_says_that_it_is_complete(
    store: Path, select: Call, tmp_path: Path, capsys: Capture
) -> None:
    out, part = tmp_path / "out", tmp_path / "part"
    whole = (*select, "--out", out, "--megatron", "--texts", "--corpus", store.parent)
    plan = ("--plan", out / "plan.json", "--shard", "1/2", "--out", part)
    for call, folder in ((whole, out), (("part", "--store", store, *plan), part)):
        code, first, _ = mads(capsys, *call, "--json")
        assert code == 0
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        code, second, _ = mads(capsys, *call, "--json")
        assert code == 0
        one, two = json.loads(first), json.loads(second)
        assert (one.pop("complete"), two.pop("complete")) == (False, True)
        del one["seconds"], two["seconds"]
        assert one == two
        code, _, err = mads(capsys, *call)
        assert code == 0
        assert "it was complete already." in err
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert names(tmp_path) == {"out", "part"}


def test_another_request_is_refused_and_nothing_is_touched(
    store: Path, select: Call, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    call = (*select, "--out", out)
    assert mads(capsys, *call)[0] == 0
    state = json.loads((store.parent / "console.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps({**state, "round": 5}))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    for changed, message in (
        ((*call[:-3], "3K", "--out", out), "budget: '2000 tokens' -> '3000 tokens'"),
        ((*call[:-4], "--docs", "5", "--out", out), "budget: '2000 tokens' -> '5 docs'"),
        ((*call, "--set", "seed=1"), "seed: "),
        ((*call, "--set", "selection.policy=top"), "policy: 'sample' -> 'top'"),
        ((*call, "--set", "selection.decay=0.5"), "settings: "),
        ((*call, "--megatron"), "megatron: False -> True"),
        ((*call, "--texts", "--corpus", store.parent), "texts: False -> True"),
        ((*call[:4], tmp_path / "other.json", *call[5:]), "follows: "),
        (
            ("part", "--store", store, "--plan", out / "plan.json", "--shard", "0/2", *call[-2:]),
            "shard: none -> '0/2'",
        ),
    ):
        code, _, err = mads(capsys, *changed)
        assert code == 2, message
        assert f"out holds another selection ({message}" in err or f"; {message}" in err
        assert "Give another --out." in err
    # What has no influence on the result may change.
    code, _, err = mads(capsys, *call, "--set", "selection.threads=2", "--set", "selection.ram=2GB")
    assert code == 0
    assert "complete already" in err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_a_complete_folder_that_was_changed_is_told(
    select: Call, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    call = (*select, "--out", out, "--megatron")
    assert mads(capsys, *call)[0] == 0
    (out / "tokens.idx").unlink()
    code, _, err = mads(capsys, *call)
    assert code == 1
    assert "out is complete but lacks tokens.idx. Give another --out." in err
    (out / "selection.parquet").write_bytes(b"PAR1")
    code, _, err = mads(capsys, *call)
    assert code == 1
    assert "selection.parquet cannot be read: " in err
    assert "Put the file back" in err


@pytest.mark.parametrize("name", ["notes.txt", "texts/thesis.tex", "plan.json", "x.partial"])
def test_a_folder_of_something_else_is_left_alone(
    select: Call, name: str, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    code, _, err = mads(capsys, *select, "--out", tmp_path / "out")
    assert code == 2
    assert "out is not empty. Give another --out." in err
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_a_round_of_a_run_is_no_folder_to_write(
    store: Path, select: Call, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    assert mads(capsys, *select, "--out", out)[0] == 0
    value = read_sealed_json(out / "plan.json", "")
    write_sealed_json(out / "plan.json", {**value, "request": None})
    code, _, err = mads(capsys, *select, "--out", out)
    assert code == 2
    assert "out is a round of a run. Give another --out." in err


def test_an_empty_folder_is_taken(select: Call, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "out").mkdir()
    assert mads(capsys, *select, "--out", tmp_path / "out")[0] == 0
    assert names(tmp_path) == {"out"}
    assert names(tmp_path / "out") == {"console.json", "selection.parquet", "plan.json"}


def test_what_a_killed_attempt_left_is_begun_anew(
    select: Call, tmp_path: Path, capsys: Capture
) -> None:
    partial = tmp_path / f"out{PARTIAL}"
    (partial / "texts").mkdir(parents=True)
    for name in (LOCK, "texts/corpus.jsonl.zst", "tokens.bin", "plan.json"):
        (partial / name).write_text("stale")
    assert mads(capsys, *select, "--out", tmp_path / "out")[0] == 0
    assert names(tmp_path) == {"out"}
    assert names(tmp_path / "out") == {"console.json", "selection.parquet", "plan.json"}


KILLED = """
import os, signal, sys
from mads import files
from mads.__main__ import run
when, sys.argv = sys.argv[1], ["mads", *sys.argv[2:]]
publish = files.publish
def killed(partial, path):
    if path.name == when:
        os.kill(os.getpid(), signal.SIGKILL)
    publish(partial, path)
files.publish = killed
if when == "rename":
    files._rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if when == "lock":
    files.sync = lambda path: os.kill(os.getpid(), signal.SIGKILL) if path.name == "box" else None
run()
"""


@pytest.mark.parametrize(
    "when", ["console.json", "selection.parquet", "plan.json", "rename", "lock"]
)
def test_an_attempt_that_is_killed_leaves_nothing_or_all(
    select: Call, when: str, tmp_path: Path, capsys: Capture
) -> None:
    box = tmp_path / "box"
    box.mkdir()
    call = [str(part) for part in (*select, "--out", box / "out")]
    done = subprocess.run([sys.executable, "-c", KILLED, when, *call], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert (box / "out").exists() == (when == "lock")
    code, _, err = mads(capsys, *call)
    assert code == 0
    assert ("complete already" in err) == (when == "lock")
    assert names(box) == {"out"}
    assert names(box / "out") == {"console.json", "selection.parquet", "plan.json"}


def _select(call: list[str], start: str, done: str) -> None:
    from mads.__main__ import run

    while not Path(start).exists():
        time.sleep(0.001)
    sys.argv = ["mads", *call]
    sys.stderr = Path(done).open("w")  # noqa: SIM115 - until the process ends
    code = run()
    sys.stderr.flush()
    os._exit(code)


def test_two_calls_at_once_mix_nothing(
    store: Path, select: Call, tmp_path: Path, capsys: Capture
) -> None:
    """One writes; the other is told, or finds it complete."""
    context = multiprocessing.get_context("spawn")
    for number in range(3):
        out = tmp_path / f"out{number}"
        workers = []
        for i in range(2):
            call = [str(part) for part in (*select, "--out", out)]
            files = (str(tmp_path / f"go{number}"), str(tmp_path / f"words{number}-{i}"))
            workers.append(context.Process(target=_select, args=(call, *files)))
            workers[-1].start()
        time.sleep(0.2)
        (tmp_path / f"go{number}").touch()
        for worker in workers:
            worker.join()
        codes = sorted(int(worker.exitcode or 0) for worker in workers)
        words = [(tmp_path / f"words{number}-{i}").read_text() for i in range(2)]
        assert codes in ([0, 0], [0, 1]), words
        if codes == [0, 1]:
            assert sum("is being written by another mads process" in text for text in words) == 1
        assert names(out) == {"console.json", "selection.parquet", "plan.json"}
        assert not out.with_name(out.name + PARTIAL).exists()
        plan = load_plan(out / "plan.json")
        assert pq.read_table(out / "selection.parquet").num_rows == plan.num_docs


@pytest.fixture
def moving(tmp_path: Path) -> tuple[Path, Call]:
    """A corpus of its own, and a selection of its store."""
    folder = tmp_path / "own"
    folder.mkdir()
    opened = Store(planted.build(folder))
    path = tmp_path / "state.json"
    path.write_text(json.dumps(console_to_json(initial_state(opened.cells.categories))))
    return folder / "corpus.jsonl", ("--store", folder / "store", "--console", path)


@pytest.mark.parametrize("part", [False, True])
def test_a_selection_without_its_corpus_is_made_when_it_is_back(
    moving: tuple[Path, Call], part: bool, tmp_path: Path, capsys: Capture
) -> None:
    corpus, arguments = moving
    out = tmp_path / "out"
    whole = ("select", *arguments, "--tokens", "2K", "--out", tmp_path / "whole")
    assert mads(capsys, *whole)[0] == 0
    texts = ("--texts", "--corpus", corpus.parent, "--out", out)
    call: Call = ("select", *arguments, "--tokens", "2K", *texts, "--megatron")
    if part:
        plan = tmp_path / "whole" / "plan.json"
        call = ("part", *arguments[:2], "--plan", plan, "--shard", "1/2", *texts)
    corpus.rename(tmp_path / "away")
    code, _, err = mads(capsys, *call)
    assert code == 1
    assert "corpus.jsonl cannot be opened, so its texts cannot be written: No such file" in err
    assert not out.exists()
    assert not out.with_name(f"out{PARTIAL}").exists()
    shutil.copy(tmp_path / "away", corpus)
    assert mads(capsys, *call)[0] == 0
    rows = pq.read_table(out / "selection.parquet").num_rows
    assert len(read_lines(out / "texts" / "corpus.jsonl.zst")) == rows


def test_a_selection_in_documents_tells_its_shortfall(
    select: Call, tmp_path: Path, capsys: Capture
) -> None:
    call = (*select[:-2], "--docs", "1K", "--json", "--out", tmp_path / "all")
    code, text, _ = mads(capsys, *call)
    value = json.loads(text)
    assert code == 0
    assert (value["num_docs"], value["shortfall_docs"], value["budget_docs"]) == (180, 820, 1000)
    assert value["budget_tokens"] is value["shortfall_tokens"] is None
    plan = load_plan(RoundDir(tmp_path / "all").plan)
    assert (plan.num_docs, plan.budget.amount, plan.budget.unit) == (180, 1000, "docs")
