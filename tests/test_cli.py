"""The command line: what it prints, and one clear message with its exit code for every mistake."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toys import MakeRecipe, write_jsonl

from mads import __version__, cli
from mads.annotate import annotate
from mads.errors import UsageError
from mads.layout import StoreDir
from mads.recipe import to_table, to_toml
from mads.store.index import build_index
from mads.store.spec import StoreSpec
from mads.units import parse_count

Capture = pytest.CaptureFixture[str]


def mads(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command line in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["mads", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def recipe(tmp_path: Path, toy_recipe: MakeRecipe) -> Path:
    path = tmp_path / "toy.toml"
    path.write_text(to_toml(to_table(toy_recipe())))
    return path


def console(path: Path, categories: Mapping[str, Sequence[str]], favourite: str) -> Path:
    weights = {
        agent: {name: 5.0 if name == favourite else 0.1 for name in names}
        for agent, names in categories.items()
    }
    theta = dict.fromkeys(weights, 1 / len(weights))
    path.write_text(json.dumps({"round": 3, "theta": theta, "weights": weights}))
    return path


TOY = {"domain": ["books", "code", "news"], "quality": ["0-1", "1-2", "2-3", "3-4", "4-5"]}


def test_version_and_help(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert mads(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"mads {__version__}\n"
    assert mads(monkeypatch, "-h") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("annotate", "train", "select", "harvest"))


def test_help_imports_no_stage() -> None:
    code = (
        "import sys; sys.argv = ['mads', '--help']\n"
        "from mads.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n"
        "    heavy = {'torch', 'numpy', 'pyarrow', 'duckdb', 'transformers', 'fasttext'}\n"
        "    print(sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_annotate_prints_a_summary_and_then_that_it_is_complete(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path, toy_corpus: Path, recipe: Path
) -> None:
    out = tmp_path / "store"
    call = ("annotate", toy_corpus, "--out", out, "--recipe", recipe)
    assert mads(monkeypatch, *call) == 0
    words = capsys.readouterr()
    assert words.out == ""
    assert "300 documents (300 ok)" in words.err
    assert "books" in words.err
    assert mads(monkeypatch, *call, "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["rows"] == value["statuses"]["ok"] == 300
    assert value["new_shards"] == 0
    assert value["store"] == str(out)
    assert mads(monkeypatch, *call) == 0
    assert "was complete already" in capsys.readouterr().err
    (out / "index" / "order.parquet").unlink()
    assert mads(monkeypatch, *call) == 0
    assert "was complete already" not in capsys.readouterr().err
    assert (out / "index" / "order.parquet").is_file()


def test_annotate_takes_the_memory_for_the_index(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path, toy_corpus: Path, recipe: Path
) -> None:
    seen: list[int] = []

    def build(store: StoreDir, spec: StoreSpec, ram_bytes: int, report: Any) -> tuple[int, int]:
        seen.append(ram_bytes)
        return build_index(store, spec, ram_bytes, report)

    monkeypatch.setattr(annotate, "build_index", build)
    call = ("annotate", toy_corpus, "--out", tmp_path / "store", "--recipe", recipe, "--json")
    assert mads(monkeypatch, *call, "--ram", "4GB") == 0
    (tmp_path / "store" / "index" / "cells.parquet").unlink()
    assert mads(monkeypatch, *call, "--ram", "500_000") == 0  # bytes
    assert seen == [4_000_000_000, 500_000]
    capsys.readouterr()
    assert mads(monkeypatch, *call, "--ram", "much") == 2
    assert "index_ram: 'much' is not a size; write 4GB, say." in capsys.readouterr().err
    assert mads(monkeypatch, "annotate", "--help") == 0
    assert "--ram" in capsys.readouterr().out


def test_annotate_tells_where_quantile_bins_begin(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path, toy_corpus: Path
) -> None:
    options = ["agents.q.backend=column", "agents.q.field=quality", "agents.q.quantiles=3"]
    recipe = tmp_path / "r.toml"
    recipe.write_text('[tokenizer]\nvocab_size = 400\n[agents.q]\nbackend = "column"\n')
    changes = [part for option in options for part in ("--set", option)]
    call = ("annotate", toy_corpus, "--out", tmp_path / "s", "--recipe", recipe, *changes)
    assert mads(monkeypatch, *call) == 0
    words = capsys.readouterr().err
    assert mads(monkeypatch, *call, "--json") == 0
    low, high = json.loads(capsys.readouterr().out)["edges"]["q"]
    assert 1.2 < low < 2 < 3 < high < 3.7
    assert f"q: bins by quantiles begin at {low:.6g}, {high:.6g}." in words.replace("\n", "")


def test_select_follows_the_console(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path, toy_store: Path
) -> None:
    state = console(tmp_path / "console.json", TOY, "code")
    call = ("select", "--store", toy_store, "--console", state, "--tokens", "1_000")
    assert mads(monkeypatch, *call, "--out", tmp_path / "a", "--json", "--texts") == 0
    value = json.loads(capsys.readouterr().out)
    assert 1000 <= value["num_tokens"] < 1500
    assert value["shortfall_tokens"] == 0
    before, after = value["composition"]["domain"]["code"]
    assert after > before
    (texts,) = sorted((tmp_path / "a" / "texts").iterdir())[:1]
    assert texts.name == "part-0.jsonl.zst"
    assert pq.read_table(tmp_path / "a" / "selection.parquet").num_rows == value["num_docs"]
    assert mads(monkeypatch, *call, "--out", tmp_path / "b") == 0
    words = capsys.readouterr().err
    assert f"{value['num_docs']} documents, {value['num_tokens']:,} tokens" in words
    assert "domain: share of tokens" in words


def test_texts_of_a_corpus_that_was_moved_are_found_after_annotate(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path, toy_corpus: Path, recipe: Path
) -> None:
    corpus, store = tmp_path / "corpus", tmp_path / "store"
    shutil.copytree(toy_corpus, corpus)
    made = ("--out", store, "--recipe", recipe)
    assert mads(monkeypatch, "annotate", corpus, *made) == 0
    corpus.rename(tmp_path / "moved")
    state = console(tmp_path / "console.json", TOY, "code")
    call = ("select", "--store", store, "--console", state, "--tokens", "1K", "--texts", "--out")
    assert mads(monkeypatch, *call, tmp_path / "a") == 1
    assert "run the same `mads annotate` on its new place" in capsys.readouterr().err
    assert mads(monkeypatch, "annotate", tmp_path / "moved", *made) == 0
    assert "was complete already" in capsys.readouterr().err
    assert mads(monkeypatch, *call, tmp_path / "a") == 0
    assert list((tmp_path / "a" / "texts").iterdir())


@pytest.mark.parametrize("policy", ["top", "sample", "random"])
def test_a_budget_of_documents(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path, toy_store: Path, policy: str
) -> None:
    """Exactly as many, with bounds too; a part of the plan and more than all there are."""
    state = console(tmp_path / "console.json", TOY, "code")
    call = ("select", "--store", toy_store, "--console", state, "--json")
    rules = ("--set", f"selection.policy={policy}", "--set", "selection.max_share.domain.code=0.5")
    whole = tmp_path / "whole"
    assert mads(monkeypatch, *call, "--docs", "37", "--out", whole, *rules) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["num_docs"], value["budget_docs"], value["shortfall_docs"]) == (37, 37, 0)
    assert value["composition"]["domain"]["code"][1] > 0
    plan = json.loads((whole / "plan.json").read_text())
    assert plan["budget_docs"] == plan["num_docs"] == 37
    table = pq.read_table(whole / "selection.parquet")
    assert table.num_rows == len(set(table["doc"].to_pylist())) == 37
    # Each of the five cells of a category is rounded to whole documents.
    assert table["domain"].to_pylist().count("code") < 0.5 * 37 + 5
    parts = []
    for i in range(3):
        part = ("--plan", whole / "plan.json", "--shard", f"{i}/3", "--out", tmp_path / str(i))
        assert mads(monkeypatch, "select", "--store", toy_store, *part, "--json") == 0
        parts.append(pq.read_table(tmp_path / str(i) / "selection.parquet"))
    assert pa.concat_tables(parts).to_pylist() == table.to_pylist()
    capsys.readouterr()
    assert mads(monkeypatch, *call, "--docs", "1K", "--out", tmp_path / "all") == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["num_docs"], value["shortfall_docs"]) == (300, 700)
    assert mads(monkeypatch, *call[:-1], "--docs", "1K", "--out", tmp_path / "again") == 0
    assert "less than the budget asks for; 700 documents are missing." in capsys.readouterr().err


def test_select_imports_no_stage_of_training(tmp_path: Path, toy_store: Path) -> None:
    state = console(tmp_path / "console.json", TOY, "code")
    call = ["select", "--store", str(toy_store), "--console", str(state), "--docs", "5"]
    code = (
        f"import sys; sys.argv = ['mads', *{call}, '--out', {str(tmp_path / 'out')!r}]\n"
        "from mads.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n"
        "    print(sorted({'torch', 'transformers', 'fasttext'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_select_says_when_the_corpus_falls_short(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path, toy_store: Path
) -> None:
    state = console(tmp_path / "console.json", TOY, "code")
    call = ("select", "--store", toy_store, "--console", state, "--tokens", "5M")
    assert mads(monkeypatch, *call, "--out", tmp_path / "a") == 0
    assert "there is less than the budget asks for;" in capsys.readouterr().err


def test_hostile_names_work_from_end_to_end(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path, toy_recipe: MakeRecipe
) -> None:
    evil = [
        "'; DROP TABLE x; --",
        "../x",
        "日本 🦉",
        "two\nlines",
        '"quoted"',
        "%s{0}",
        "*?",
        "[/x][red]",
    ]
    corpus = tmp_path / "cor[pus]*'"
    for number in range(2):
        documents = [
            {"text": f"document {i} of {number}", "set": evil[i % len(evil)]} for i in range(20)
        ]
        write_jsonl(corpus / f"a[{number}]*'.jsonl", documents)
    write_jsonl(corpus / "a1.jsonl", [{"text": "what a[1]* must not mean", "set": evil[0]}])
    store = tmp_path / "st[1]*' ore"
    agent = {"backend": "column", "field": "set", "categories": evil}
    path = tmp_path / "evil.toml"
    path.write_text(to_toml(to_table(toy_recipe(agents={"evil": agent}))))
    assert mads(monkeypatch, "annotate", corpus, "--out", store, "--recipe", path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["cells"] == len(evil)
    assert mads(monkeypatch, "annotate", corpus, "--out", store, "--recipe", path) == 0
    assert "[/x][red]" in capsys.readouterr().err
    state = console(tmp_path / "it's [a] *.json", {"evil": evil}, evil[0])
    out = tmp_path / "o[u]t*'"
    call = ("select", "--store", store, "--console", state, "--tokens", "40", "--out", out)
    settings = ("--set", "selection.policy=top", "--texts")
    assert mads(monkeypatch, *call, "--json", *settings) == 0
    composition = json.loads(capsys.readouterr().out)["composition"]["evil"]
    assert composition[evil[0]][1] == 1.0
    chosen = []
    for file in sorted((out / "texts").iterdir()):
        with pa.input_stream(str(file), compression="zstd") as stream:
            chosen += [json.loads(line) for line in stream.read().splitlines()]
    assert chosen
    assert {document["set"] for document in chosen} == {evil[0]}


def test_harvest_prints_what_it_found(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    from mads.demo import harvest

    summary = harvest.HarvestSummary({"code": 2}, {"code": 2_000_000}, 5)
    monkeypatch.setattr(harvest, "harvest", lambda out, seed: summary)
    assert mads(monkeypatch, "harvest", "--out", tmp_path) == 0
    assert "corpus/ and reference.jsonl with 5 held-out items" in capsys.readouterr().err
    assert mads(monkeypatch, "harvest", "--out", tmp_path, "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["num_docs"] == {"code": 2}


def bad_annotate(tmp_path: Path) -> dict[str, tuple[list[Any], int, str]]:
    """Return calls that must fail: arguments, exit code, message."""
    good = write_jsonl(tmp_path / "good.jsonl", [{"text": "x", "quality": 1}])
    (tmp_path / "x.csv").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "none").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("x")
    (tmp_path / "cut.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd\x04")
    (tmp_path / "zero.jsonl").write_bytes(b"")
    (tmp_path / "page.jsonl").write_text("<!doctype html>")
    (tmp_path / "bad.toml").write_text("[training]\nstepz = 1\n")
    out = ["--out", tmp_path / "out"]
    return {
        "no out": ([good], 2, "Missing option"),
        "no corpus": (out, 2, "Missing argument"),
        "missing": ([tmp_path / "no.jsonl", *out], 2, "no.jsonl does not exist."),
        "unknown": ([tmp_path / "x.csv", *out], 2, "x.csv has no known format: found '.csv'"),
        "nothing": ([tmp_path / "none", *out], 2, "none holds no corpus file"),
        "no recipe": ([good, *out, "--recipe", "no"], 2, "recipe 'no' does not exist."),
        "bad recipe": (
            [good, *out, "--recipe", tmp_path / "bad.toml"],
            2,
            "training.stepz: unknown key; did you mean 'steps'?",
        ),
        "bad set": ([good, *out, "--set", "sed=1"], 2, "sed: unknown key; did you mean 'seed'?"),
        "bad agent": (
            [good, *out, "--set", "agents.domain.backend=column"],
            2,
            "agents.domain.field: the back-end 'column' needs",
        ),
        "out is a file": ([good, "--out", tmp_path / "file"], 2, "file is a file, not a folder."),
        "out in a file": ([good, "--out", tmp_path / "file" / "x"], 1, "Not a directory"),
        "foreign out": ([good, "--out", tmp_path / "other"], 1, "is neither empty nor a store"),
        "damaged": (
            [tmp_path / "cut.jsonl.zst", tmp_path / "zero.jsonl", tmp_path / "page.jsonl", *out],
            1,
            "3 of 3 corpus files cannot be read:",
        ),
    }


def test_a_bad_annotate_is_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    for name, (arguments, code, message) in bad_annotate(tmp_path).items():
        assert mads(monkeypatch, "annotate", *arguments) == code, name
        words = capsys.readouterr()
        assert message in words.err, name
        assert words.out == "", name
        if "Usage:" not in words.err:
            assert words.err.startswith("mads: "), name
    assert not (tmp_path / "out" / "corpus.json").exists()


def test_a_bad_select_is_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path, toy_store: Path
) -> None:
    state = console(tmp_path / "console.json", TOY, "code")
    other = console(tmp_path / "other.json", {"domain": ["books"]}, "books")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "no.json").write_text("[1]")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    store = ["--store", toy_store]
    out = ["--out", tmp_path / "out"]
    budget = ["--tokens", "10K"]
    good = [*store, *out, *budget]
    calls: list[tuple[list[Any], int, str]] = [
        ([*good], 2, "--run RUN"),
        ([*good, "--run", "x", "--console", state], 2, "--run RUN"),
        ([*good, "--run", tmp_path / "none"], 2, "none does not exist. `mads train` makes one."),
        ([*good, "--run", tmp_path], 1, "holds no complete round (no rounds/*/plan.json)."),
        ([*good, "--console", tmp_path / "none"], 2, "none does not exist."),
        ([*good, "--console", tmp_path / "broken.json"], 1, "cannot be read as JSON"),
        ([*good, "--console", tmp_path / "no.json"], 1, "no.json is not a console state"),
        ([*good, "--console", other], 1, "Was it made with another store?"),
        ([*store, *budget, "--out", tmp_path / "full", "--console", state], 2, "full is not empty"),
        ([*store, *out, "--tokens", "5X", "--console", state], 2, "'5X' is not a number"),
        ([*store, *out, "--tokens", "0", "--console", state], 2, "expected at least 1."),
        ([*store, *out, "--docs", "5X", "--console", state], 2, "--docs '5X' is not a number"),
        ([*good, "--docs", "5", "--console", state], 2, "one of --tokens 5M, --docs 10K and --fr"),
        (["--store", tmp_path / "no", *out, *budget, "--console", state], 2, "no does not exist."),
        (["--store", tmp_path, *out, *budget, "--console", state], 1, "it has no corpus.json"),
        ([*good, "--console", state, "--set", "x=1"], 2, "x: unknown key"),
    ]
    for arguments, code, message in calls:
        assert mads(monkeypatch, "select", *arguments) == code, message
        words = capsys.readouterr()
        assert words.err.startswith("mads: "), message
        assert message in words.err.replace("\n", " ")
        assert words.out == ""
    assert not (tmp_path / "out").exists()


def test_the_real_command_prints_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mads", "annotate", str(tmp_path / "none.jsonl")]
    done = subprocess.run([*command, "--out", str(tmp_path / "s")], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"mads: {tmp_path / 'none.jsonl'} does not exist.\n"
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("5M", 5_000_000), ("1.5b", 1_500_000_000), ("2k", 2000), ("1e3", 1000)],
)
def test_counts(text: str, value: int) -> None:
    assert parse_count(text) == value


@pytest.mark.parametrize("text", ["", "M", "x", "0", "-5M", "0.4", "nan", "inf", "1e400", "9e9T"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--tokens .*(is not a number|expected at least 1)"):
        parse_count(text)
