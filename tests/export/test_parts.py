"""Parts of a selection: disjoint, together the whole, each from its own rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import planted
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report.test_explain import mads

from mads.console import initial_state
from mads.console.state import console_to_json
from mads.corpus.tokens import TokenReader
from mads.errors import UsageError
from mads.export.parts import part_ranges
from mads.selection.take import Range
from mads.store.store import Store
from mads.units import parse_part


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted.build(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def console(store: Path) -> Path:
    """Return a console state file that prefers useful documents."""
    cells = Store(store).cells
    weights = {agent: dict.fromkeys(names, 1.0) for agent, names in cells.categories.items()}
    weights["kind"]["useful"] = 1.5
    path = store.parent / "console.json"
    state = {"round": 4, "theta": dict.fromkeys(weights, 1 / 3), "weights": weights}
    path.write_text(json.dumps(state))
    return path


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    count=st.integers(1, 12),
)
def test_parts_are_disjoint_and_complete(sizes: list[int], count: int) -> None:
    ranges: list[Range] = [
        {"cell": i, "start_row": 5 * i, "stop_row": 5 * i + size} for i, size in enumerate(sizes)
    ]

    def rows(found: list[Range]) -> list[tuple[int, int]]:
        return [(r["cell"], row) for r in found for row in range(r["start_row"], r["stop_row"])]

    parts = [rows(part_ranges(ranges, i, count)) for i in range(count)]
    assert [row for part in parts for row in part] == rows(ranges)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["3/3", "-1/2", "1", "a/b", "1/0", "/2"])
def test_a_part_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"--shard .*expected i/n with i from 0 to n - 1"):
        parse_part(text)


def test_the_parts_of_a_selection_are_the_selection(
    store: Path, console: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ("select", "--store", store)
    whole = (*base, "--console", console, "--fraction", "0.4", "--out", tmp_path / "whole")
    assert mads(capsys, *whole, "--set", "selection.policy=top")[0] == 0
    plan = tmp_path / "whole" / "plan.json"
    for i in range(3):
        out = tmp_path / f"part{i}"
        part = (*base, "--plan", plan, "--shard", f"{i}/3", "--out", out, "--texts")
        code, text, _ = mads(capsys, *part, "--json")
        assert code == 0
        assert (
            json.loads(text)["num_docs"] == json.loads((out / "plan.json").read_text())["num_docs"]
        )
    tables = [pq.read_table(tmp_path / f"part{i}" / "selection.parquet") for i in range(3)]
    expected = pq.read_table(tmp_path / "whole" / "selection.parquet")
    assert pa.concat_tables(tables).to_pylist() == expected.to_pylist()
    texts = [tmp_path / f"part{i}" / "texts" / "corpus.jsonl.zst" for i in range(3)]
    lines = [line for path in texts for line in read_lines(path)]
    source = (store.parent / "corpus.jsonl").read_text().splitlines()
    rows = expected["doc"].to_numpy() & np.uint64(0xFFFFFFFF)
    assert sorted(lines) == sorted(source[int(row)] for row in rows)


def read_lines(path: Path) -> list[str]:
    with pa.input_stream(str(path), compression="zstd") as stream:
        return stream.read().decode().splitlines()  # type: ignore[no-any-return]


def test_the_tokens_of_a_selection_for_another_trainer(
    store: Path, console: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "picked"
    arguments = ("--store", store, "--console", console, "--tokens", "2K", "--out", out)
    code, text, _ = mads(capsys, "select", *arguments, "--megatron", "--json")
    assert code == 0
    reader = TokenReader(out / "tokens.bin", out / "tokens.idx")
    selection = pq.read_table(out / "selection.parquet")
    assert len(reader) == selection.num_rows == json.loads(text)["num_docs"]
    opened = Store(store)
    found = sorted(tuple(reader.row(i)) for i in range(len(reader)))
    own = [opened.tokens(doc) for doc in selection["doc"].to_pylist()]
    assert found == sorted(tuple(source.row(row)) for source, row in own)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--plan", "{tmp}/none.json", "--shard", "0/2"], 2, "none.json does not exist"),
        (
            ["--plan", "{tmp}/other.json", "--shard", "0/2"],
            1,
            "made with another store: found 0000",
        ),
        (
            ["--plan", "{tmp}/console.json", "--shard", "0/2"],
            1,
            "console.json is no plan.json: it has no 'store'. Give one that",
        ),
        (
            ["--plan", "{tmp}/other.json", "--shard", "0/2", "--what-if", "kind=2"],
            2,
            "--what-if: does not go with --plan",
        ),
        (
            ["--plan", "{tmp}/o.json", "--shard", "0/2", "--tokens", "1K", "--fraction", "0.5"],
            2,
            "--tokens, --fraction: does not go with --plan",
        ),
        (
            ["--plan", "{tmp}/o.json", "--shard", "0/2", "--recipe", "demo", "--set", "seed=1"],
            2,
            "--recipe, --set: does not go with --plan",
        ),
        (["--plan", "{tmp}/other.json"], 2, "--plan plan.json and --shard i/n go together"),
        (["--console", "{tmp}/other.json", "--shard", "0/2", "--tokens", "1K"], 2, "go together"),
        (["--shard", "0/2"], 2, "give one of --run RUN, --console"),
    ],
)
def test_refusals(
    store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    cursors: dict[str, list[int]] = {"passes": [], "row": [], "tokens": []}
    other = {"store": "0" * 64, "seed": 0, "ranges": [], "cursors": cursors}
    (tmp_path / "other.json").write_text(json.dumps(other))
    (tmp_path / "console.json").write_text('{"round": 0, "theta": {}, "weights": {}}')
    filled = [text.format(tmp=tmp_path) for text in arguments]
    found, out, err = mads(capsys, "select", "--store", store, *filled, "--out", tmp_path / "out")
    assert found == code
    assert out == ""
    assert message in err


def test_a_part_of_a_plan_needs_a_folder(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--store", store, "--plan", tmp_path / "plan.json", "--shard", "0/2")
    for more in ((), ("--what-if", "kind=2")):
        code, _, err = mads(capsys, "select", *arguments, *more)
        assert code == 2
        assert "Traceback" not in err
        assert (
            "give either --out DIR" if not more else "--what-if: does not go with --plan"
        ) in err


@pytest.fixture
def moving(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[Path, tuple[object, ...], Path]:
    """A corpus of its own, the selection of a console state, and that state."""
    folder = tmp_path / "own"
    folder.mkdir()
    opened = Store(planted.build(folder))
    state = initial_state(opened.cells.categories)
    path = tmp_path / "state.json"
    path.write_text(json.dumps(console_to_json(state)))
    return folder / "corpus.jsonl", ("--store", folder / "store", "--console", path), path


@pytest.mark.parametrize("part", [False, True])
def test_a_selection_without_its_corpus_is_made_when_it_is_back(
    moving: tuple[Path, tuple[object, ...], Path],
    part: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    corpus, arguments, _ = moving
    whole, out = (*arguments, "--tokens", "2K", "--out", tmp_path / "whole"), tmp_path / "out"
    assert mads(capsys, "select", *whole)[0] == 0
    again = (*arguments, "--tokens", "2K", "--out", out, "--texts", "--megatron")
    if part:
        plan = tmp_path / "whole" / "plan.json"
        again = (*arguments[:2], "--plan", plan, "--shard", "1/2", "--out", out, "--texts")
    corpus.rename(tmp_path / "away")
    code, _, err = mads(capsys, "select", *again)
    assert code == 1
    assert "corpus.jsonl is gone or has changed since the store was made" in err
    assert not (out / "plan.json").exists()
    (tmp_path / "away").rename(corpus)
    assert mads(capsys, "select", *again)[0] == 0
    rows = pq.read_table(out / "selection.parquet").num_rows
    assert len(read_lines(out / "texts" / "corpus.jsonl.zst")) == rows
    code, _, err = mads(capsys, "select", *again)
    assert code == 2
    assert "out is not empty. Give another --out." in err


def test_what_a_killed_attempt_left_is_overwritten(
    moving: tuple[Path, tuple[object, ...], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, arguments, state = moving
    out = tmp_path / "out"
    (out / "texts").mkdir(parents=True)
    for name in ("corpus.jsonl.zst.partial", "corpus.jsonl.zst"):
        (out / "texts" / name).write_text("stale")
    for name in ("tokens.bin", "tokens.idx.partial", "selection.parquet", "plan.json.partial"):
        (out / name).write_text("stale")
    (out / "console.json").write_text(state.read_text())
    command = ("select", *arguments, "--tokens", "2K", "--out", out)
    assert mads(capsys, *command)[0] == 0
    assert {p.name for p in out.iterdir()} == {"console.json", "selection.parquet", "plan.json"}


@pytest.mark.parametrize(
    "name", ["notes.txt", "rewards.parquet", "texts/thesis.tex", "thesis.tex.partial", "plan.json"]
)
def test_a_folder_of_something_else_is_left_alone(
    moving: tuple[Path, tuple[object, ...], Path],
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, arguments, _ = moving
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    command = ("select", *arguments, "--tokens", "2K", "--out", tmp_path / "out")
    code, _, err = mads(capsys, *command)
    assert code == 2
    assert "out is not empty. Give another --out." in err
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == [path]


def test_another_console_state_is_not_overwritten(
    moving: tuple[Path, tuple[object, ...], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, arguments, state = moving
    mine = tmp_path / "out" / "console.json"
    mine.parent.mkdir()
    mine.write_text(state.read_text().replace('"round": 0', '"round": 1'))
    before = mine.read_text()
    command = ("select", *arguments, "--tokens", "2K", "--out", mine.parent)
    code, _, err = mads(capsys, *command)
    assert code == 2
    assert "out is not empty: it has another console.json. Give another --out." in err
    assert mine.read_text() == before
