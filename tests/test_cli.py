"""The command line: what it prints, and one clear message with its exit code for every mistake."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import write_console
from toys import MakeRecipe, write_jsonl

from mads import __version__
from mads.__main__ import run
from mads.annotate import annotate
from mads.layout import StoreDir
from mads.recipe import to_table, to_toml
from mads.store.build import build_index

Capture = pytest.CaptureFixture[str]


def mads(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command line in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["mads", *map(str, arguments)])
    return run()


@pytest.fixture
def recipe(tmp_path: Path, toy_recipe: MakeRecipe) -> Path:
    path = tmp_path / "toy.toml"
    path.write_text(to_toml(to_table(toy_recipe())))
    return path


TOY = {"domain": ["books", "code", "news"], "quality": ["0-1", "1-2", "2-3", "3-4", "4-5"]}


def test_version_and_help(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert mads(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"mads {__version__}\n"
    assert mads(monkeypatch, "-h") == 0
    text = capsys.readouterr().out
    assert all(
        name in text
        for name in (
            "annotate",
            "train",
            "compare",
            "select",
            "what-if",
            "part",
            "evaluate",
            "harvest",
        )
    )


def test_help_imports_no_stage() -> None:
    code = (
        "import sys; sys.argv = ['mads', '--help']\n"
        "from mads.__main__ import run\n"
        "run()\n"
        "heavy = {'torch', 'numpy', 'pyarrow', 'duckdb', 'transformers', 'fasttext'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
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
    order = StoreDir(out).index(1).order
    order.unlink()
    assert mads(monkeypatch, *call) == 0
    assert "was complete already" not in capsys.readouterr().err
    assert order.is_file()


def test_annotate_takes_the_memory_for_the_index(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path, toy_corpus: Path, recipe: Path
) -> None:
    seen: list[int] = []

    def build(*arguments: Any) -> tuple[int, int]:
        seen.append(arguments[3])
        return build_index(*arguments)

    monkeypatch.setattr(annotate, "build_index", build)
    call = ("annotate", toy_corpus, "--out", tmp_path / "store", "--recipe", recipe, "--json")
    assert mads(monkeypatch, *call, "--ram", "4GB") == 0
    StoreDir(tmp_path / "store").index(1).cells.unlink()
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
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    tmp_path: Path,
    toy_store: Path,
    toy_corpus: Path,
) -> None:
    state = write_console(tmp_path / "console.json", TOY, "code")
    call = ("select", "--store", toy_store, "--console", state, "--tokens", "1_000")
    texts = ("--texts", "--corpus", toy_corpus)
    assert mads(monkeypatch, *call, "--out", tmp_path / "a", "--json", *texts) == 0
    value = json.loads(capsys.readouterr().out)
    assert 1000 <= value["num_tokens"] < 1500
    assert value["shortfall_tokens"] == 0
    before, after = value["composition"]["domain"]["code"]
    assert after > before
    first = min((tmp_path / "a" / "texts").iterdir())
    assert first.name == "part-0.jsonl.zst"
    assert pq.read_table(tmp_path / "a" / "selection.parquet").num_rows == value["num_docs"]
    assert mads(monkeypatch, *call, "--out", tmp_path / "b") == 0
    words = capsys.readouterr().err
    assert f"{value['num_docs']} documents, {value['num_tokens']:,} tokens" in words
    assert "domain: share of tokens" in words


def test_texts_are_read_below_the_corpus_that_is_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    tmp_path: Path,
    toy_store: Path,
    toy_corpus: Path,
) -> None:
    """The message shows the option to add; a corpus that was moved is named by its new place."""
    state = write_console(tmp_path / "console.json", TOY, "code")
    call = ("select", "--store", toy_store, "--console", state, "--tokens", "1K")
    out = ("--out", tmp_path / "a")
    assert mads(monkeypatch, *call, *out, "--texts") == 2
    words = capsys.readouterr().err
    assert f"--texts needs the folder that the corpus is in: add --corpus {toy_corpus}" in words
    assert mads(monkeypatch, *call, *out, "--corpus", toy_corpus) == 2
    assert "--corpus says where texts are read from: add --texts" in capsys.readouterr().err
    moved = tmp_path / "moved"
    shutil.copytree(toy_corpus, moved)
    assert mads(monkeypatch, *call, *out, "--texts", "--corpus", tmp_path) == 1
    assert "part-0.jsonl cannot be opened, so its texts" in capsys.readouterr().err
    assert mads(monkeypatch, *call, *out, "--texts", "--corpus", moved) == 0
    assert list((tmp_path / "a" / "texts").iterdir())


@pytest.mark.parametrize("policy", ["top", "sample", "random"])
def test_a_budget_of_documents(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path, toy_store: Path, policy: str
) -> None:
    """Exactly as many, with bounds too; a part of the plan and more than all there are."""
    state = write_console(tmp_path / "console.json", TOY, "code")
    call = ("select", "--store", toy_store, "--console", state, "--json")
    rules = ("--set", f"selection.policy={policy}", "--set", "selection.max_share.domain.code=0.5")
    whole = tmp_path / "whole"
    assert mads(monkeypatch, *call, "--docs", "37", "--out", whole, *rules) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["num_docs"], value["budget_docs"], value["shortfall_docs"]) == (37, 37, 0)
    assert value["composition"]["domain"]["code"][1] > 0
    plan = json.loads((whole / "plan.json").read_text())
    assert plan["budget"] == {"amount": 37, "unit": "docs"}
    assert plan["num_docs"] == 37
    table = pq.read_table(whole / "selection.parquet")
    assert table.num_rows == len(set(table["doc"].to_pylist())) == 37
    # Each of the five cells of a category is rounded to whole documents.
    assert table["domain"].to_pylist().count("code") < 0.5 * 37 + 5
    parts = []
    for i in range(3):
        part = ("--plan", whole / "plan.json", "--shard", f"{i}/3", "--out", tmp_path / str(i))
        assert mads(monkeypatch, "part", "--store", toy_store, *part, "--json") == 0
        parts.append(pq.read_table(tmp_path / str(i) / "selection.parquet"))
    assert pa.concat_tables(parts).to_pylist() == table.to_pylist()
    capsys.readouterr()
    assert mads(monkeypatch, *call, "--docs", "1K", "--out", tmp_path / "all") == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["num_docs"], value["shortfall_docs"]) == (300, 700)
    assert mads(monkeypatch, *call[:-1], "--docs", "1K", "--out", tmp_path / "again") == 0
    assert "less than the budget asks for; 700 documents are missing." in capsys.readouterr().err


def test_select_imports_no_stage_of_training(tmp_path: Path, toy_store: Path) -> None:
    state = write_console(tmp_path / "console.json", TOY, "code")
    call = ["select", "--store", str(toy_store), "--console", str(state), "--docs", "5"]
    code = (
        f"import sys; sys.argv = ['mads', *{call}, '--out', {str(tmp_path / 'out')!r}]\n"
        "from mads.__main__ import run\n"
        "run()\n"
        "print(sorted({'torch', 'transformers', 'fasttext'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_select_says_when_the_corpus_falls_short(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path, toy_store: Path
) -> None:
    state = write_console(tmp_path / "console.json", TOY, "code")
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
    words = capsys.readouterr().err
    assert "[/x][red]" in words
    assert "two\\nlines" in words
    state = write_console(tmp_path / "it's [a] *.json", {"evil": evil}, evil[0])
    out = tmp_path / "o[u]t*'"
    call = ("select", "--store", store, "--console", state, "--tokens", "40", "--out", out)
    settings = ("--set", "selection.policy=top", "--texts", "--corpus", corpus)
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
    """What stands in the files; a small corpus, of the same packages."""
    from mads.demo import harvest

    small = partial(harvest.harvest, max_bytes_per_domain=1_000_000)
    monkeypatch.setattr(harvest, "harvest", small)
    assert mads(monkeypatch, "harvest", "--out", tmp_path / "a", "--seed", "3", "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["out"] == str(tmp_path / "a")
    for domain, count in value["num_docs"].items():
        lines = (tmp_path / "a" / "corpus" / f"{domain}.jsonl").read_text().splitlines()
        assert len(lines) == count
    items = (tmp_path / "a" / "reference.jsonl").read_text().splitlines()
    assert len(items) == value["num_reference"]
    assert mads(monkeypatch, "harvest", "--out", tmp_path / "b") == 0
    words = capsys.readouterr().err
    assert "reference.jsonl with " in words.replace("\n", " ")
    assert all(domain in words for domain in value["num_docs"])
    other = (tmp_path / "b" / "reference.jsonl").read_text()
    assert other.splitlines() != items  # seed 0 holds out others than seed 3


def bad_annotate(tmp_path: Path) -> dict[str, tuple[list[Any], int, str]]:
    """Return calls that must fail: arguments, exit code, message."""
    good = write_jsonl(tmp_path / "good.jsonl", [{"text": "x", "quality": 1}])
    (tmp_path / "x.doc").write_text("x")
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
        "empty": (["", *out], 2, "Invalid value for 'CORPUS': found an empty path"),
        "empty out": ([good, "--out", ""], 2, "Invalid value for '--out': found an empty path"),
        "empty recipe": ([good, *out, "--recipe", ""], 2, "'--recipe': found an empty path"),
        "missing": ([tmp_path / "no.jsonl", *out], 2, "no.jsonl does not exist."),
        "unknown": ([tmp_path / "x.doc", *out], 2, "x.doc has no known format: found '.doc'"),
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
    state = write_console(tmp_path / "console.json", TOY, "code")
    other = write_console(tmp_path / "other.json", {"domain": ["books"]}, "books")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "no.json").write_text("[1]")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    store = ["--store", toy_store]
    out = ["--out", tmp_path / "out"]
    budget = ["--tokens", "10K"]
    good = [*store, *out, *budget]
    calls: list[tuple[list[Any], int, str]] = [
        ([*good], 2, "give --run RUN or --console console.json to follow, or what you prefer:"),
        ([*good, "--run", "x", "--console", state], 2, "give one of --run RUN and --console"),
        ([*good, "--run", tmp_path / "none"], 2, "none does not exist. `mads train` makes one."),
        ([*good, "--run", tmp_path], 1, "is not a run: it has no provenance.json."),
        ([*good, "--run", state], 2, "console.json is no folder, expected a run. Give the folder"),
        (
            [*good, "--run", toy_store],
            2,
            "is a store, expected a run. Give the folder that `mads t",
        ),
        ([*good, "--console", tmp_path], 2, "is a folder. Give a console.json."),
        ([*good, "--console", tmp_path / "none"], 2, "none does not exist."),
        ([*good, "--console", tmp_path / "broken.json"], 1, "cannot be read as JSON"),
        (
            [*good, "--console", tmp_path / "no.json"],
            1,
            "no.json holds a list, expected an object",
        ),
        ([*good, "--console", other], 1, "Was it made with another store?"),
        ([*store, *budget, "--out", tmp_path / "full", "--console", state], 2, "full is not empty"),
        ([*store, *out, "--tokens", "5X", "--console", state], 2, "'5X' is not a number"),
        ([*store, *out, "--tokens", "0", "--console", state], 2, "expected at least 1 and at mo"),
        ([*store, *out, "--tokens", "9e18", "--console", state], 2, "'9e18': expected at least 1"),
        ([*store, *out, "--tokens", "1e400", "--console", state], 2, "'1e400': expected at least"),
        ([*store, *out, "--tokens", "7" * 5000, "--console", state], 2, "77'… (5000 characters):"),
        ([*store, *out, "--fraction", "0", "--console", state], 2, "--fraction '0': expected more"),
        ([*store, *out, "--fraction", "nan", "--console", state], 2, "--fraction 'nan': expected"),
        ([*store, *out, "--fraction", "2", "--console", state], 2, "--fraction '2': expected more"),
        ([*store, *out, "--console", state], 2, "give one of --tokens 5M, --docs 10K and --frac"),
        ([*store, *out, "--docs", "5X", "--console", state], 2, "--docs '5X' is not a number"),
        ([*good, "--docs", "5", "--console", state], 2, "one of --tokens 5M, --docs 10K and --fr"),
        (["--store", tmp_path / "no", *out, *budget, "--console", state], 2, "no does not exist."),
        (["--store", tmp_path, *out, *budget, "--console", state], 1, "it has no corpus.json"),
        (
            ["--store", state, *out, *budget, "--console", state],
            2,
            "json is no folder, expected a ",
        ),
        ([*good, "--console", state, "--set", "x=1"], 2, "x: unknown key"),
    ]
    for arguments, code, message in calls:
        assert mads(monkeypatch, "select", *arguments) == code, message
        words = capsys.readouterr()
        assert words.err.startswith("mads: "), message
        assert message in words.err.replace("\n", " ")
        assert words.out == ""
    assert not (tmp_path / "out").exists()


def test_a_bad_part_is_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path, toy_store: Path
) -> None:
    state = write_console(tmp_path / "console.json", TOY, "code")
    whole = ("select", "--store", toy_store, "--console", state, "--docs", "20")
    assert mads(monkeypatch, *whole, "--out", tmp_path / "whole", "--json") == 0
    capsys.readouterr()
    store, out = ["--store", toy_store], ["--out", tmp_path / "out"]
    plan = ["--plan", tmp_path / "whole" / "plan.json"]
    shard = "expected i/n with i from 0 to n - 1, such as 0/8."
    calls: list[tuple[list[Any], int, str]] = [
        ([*store, *plan, *out], 2, "Missing option '--shard'"),
        ([*store, *plan, "--shard", "0/2"], 2, "Missing option '--out'"),
        ([*store, *out, "--shard", "0/2"], 2, "Missing option '--plan'"),
        ([*store, *plan, *out, "--shard", "²/8"], 2, f"--shard '²/8': {shard}"),
        ([*store, *plan, *out, "--shard", "1" * 5000 + "/2"], 2, "11'… (5002 characters): expec"),
        ([*store, *plan, *out, "--shard", "2/2"], 2, f"--shard '2/2': {shard}"),
        ([*store, *plan, *out, "--shard", "0/2", "--tokens", "1K"], 2, "No such option: --tokens"),
        ([*store, "--plan", tmp_path / "no", *out, "--shard", "0/2"], 2, "no does not exist. `mad"),
        ([*store, "--plan", tmp_path, *out, "--shard", "0/2"], 2, "is a folder. `mads select --o"),
        (
            ["--store", tmp_path / "whole", *plan, *out, "--shard", "0/2"],
            2,
            "is a selection, expec",
        ),
        ([*store, "--plan", state, *out, "--shard", "0/2"], 1, "console.json has no 'sha256'"),
        ([*store, *plan, *out, "--shard", "0/2", "--texts"], 2, "add --corpus "),
    ]
    for arguments, code, message in calls:
        assert mads(monkeypatch, "part", *arguments) == code, message
        words = capsys.readouterr()
        assert message in words.err.replace("\n", " ")
        assert words.out == ""
    assert not (tmp_path / "out").exists()


EVIL = "\x1b]0;owned\x07\x9b31m\u202egnp"
SEEN = "\\x1b]0;owned\\x07\\x9b31m\\u202egnp"


def test_control_characters_reach_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path, toy_recipe: MakeRecipe
) -> None:
    """Hostile category names and file names, through every command that shows them."""
    corpus, store, names = tmp_path / EVIL, tmp_path / "store", [EVIL, "plain"]
    documents = [{"text": f"document {i}", "set": names[i % 2]} for i in range(20)]
    write_jsonl(corpus / f"{EVIL}.jsonl", documents)
    agent = {"backend": "column", "field": "set", "categories": names}
    path = tmp_path / "evil.toml"
    path.write_text(to_toml(to_table(toy_recipe(agents={"evil": agent}))))
    state = write_console(tmp_path / "console.json", {"evil": names}, EVIL)
    base = ("--store", store, "--console", state, "--docs", "6")
    plan = tmp_path / "a" / "plan.json"
    calls: list[tuple[int, tuple[Any, ...]]] = [
        (0, ("annotate", corpus, "--out", store, "--recipe", path)),
        (0, ("select", *base, "--out", tmp_path / "a")),
        (0, ("what-if", *base, "--theta", "evil=2")),
        (0, ("diff", tmp_path / "a", tmp_path / "a")),
        (0, ("diff", state, state)),
        (0, ("select", *base, "--out", tmp_path / EVIL / "out")),
        (2, ("select", *base, "--out", tmp_path / "b", "--texts")),
        (1, ("select", *base, "--out", tmp_path / "b", "--texts", "--corpus", corpus / "x")),
        (2, ("part", "--store", store, "--plan", plan, "--shard", EVIL, "--out", tmp_path / "p")),
        (2, ("annotate", tmp_path / f"{EVIL}.txt", "--out", store)),
        (1, ("explain", store, "3", "--run", corpus)),
        (2, ("diff", state, state, EVIL)),
        (2, (EVIL,)),
        (2, ("diff", f"--{EVIL}")),
    ]
    for code, call in calls:
        assert mads(monkeypatch, *call) == code, call
        words = capsys.readouterr()
        assert "\\x1b" in words.err.replace("\n", ""), call
        assert not set(words.err + words.out) & set("\x1b\x07\x9b\u202e"), call
    assert mads(monkeypatch, *calls[3][1], "--json") == 0
    text = capsys.readouterr().out
    assert not set(text) & set("\x1b\x07\x9b\u202e")
    assert EVIL in json.loads(text)["composition"]["evil"]
