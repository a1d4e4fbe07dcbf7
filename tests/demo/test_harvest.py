"""The embedded corpus: reproducible, complete, anonymous, and free of its reference items."""

from __future__ import annotations

import json
import re
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from mads.demo import harvest as module
from mads.demo.harvest import (
    DOMAINS,
    Document,
    HarvestSummary,
    cloze,
    docstrings,
    harvest,
    hold_out,
    split_text,
)
from mads.demo.installed import DEPENDENCIES, distributions, is_text, read_source
from mads.errors import DataError, UsageError

MAX_BYTES = 1_000_000


@pytest.fixture(scope="module")
def harvested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, HarvestSummary]:
    out = tmp_path_factory.mktemp("harvest")
    return out, harvest(out, max_bytes_per_domain=MAX_BYTES)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def words(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9_]+", text.lower()))


def test_two_runs_give_the_same_bytes(
    harvested: tuple[Path, HarvestSummary], tmp_path: Path
) -> None:
    out, summary = harvested
    assert harvest(tmp_path, max_bytes_per_domain=MAX_BYTES) == summary
    files = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert files == sorted(
        [*(Path("corpus", f"{n}.jsonl") for n in DOMAINS), Path("reference.jsonl")]
    )
    for file in files:
        assert (out / file).read_bytes() == (tmp_path / file).read_bytes()


@pytest.mark.parametrize("place", ["reference.jsonl", "corpus/code.jsonl", "notes.txt", "corpus/x"])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, place: str) -> None:
    path = tmp_path / "out" / place
    path.parent.mkdir(parents=True)
    path.write_text("mine\n")
    with pytest.raises(UsageError, match=r"(is not empty|with another content).*another --out"):
        harvest(tmp_path / "out", max_bytes_per_domain=MAX_BYTES)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
    assert path.read_text() == "mine\n"


def test_the_same_call_again_finds_its_files_and_another_is_refused(
    harvested: tuple[Path, HarvestSummary],
) -> None:
    out, summary = harvested
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert harvest(out, max_bytes_per_domain=MAX_BYTES) == summary
    with pytest.raises(UsageError, match=r"code\.jsonl is there already .* this call makes"):
        harvest(out, seed=1, max_bytes_per_domain=MAX_BYTES)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_another_seed_gives_other_documents(
    harvested: tuple[Path, HarvestSummary], tmp_path: Path
) -> None:
    harvest(tmp_path, seed=1, max_bytes_per_domain=MAX_BYTES)
    for name in ("corpus/code.jsonl", "reference.jsonl"):
        assert (tmp_path / name).read_bytes() != (harvested[0] / name).read_bytes()


def test_every_domain_is_there_and_counted(harvested: tuple[Path, HarvestSummary]) -> None:
    out, summary = harvested
    for name in DOMAINS:
        rows = read(out / "corpus" / f"{name}.jsonl")
        sources = [row["meta"]["source"] for row in rows]
        assert {row["meta"]["domain"] for row in rows} == {name}
        assert sources == sorted(sources)
        assert len(rows) == summary.num_docs[name] >= 20
        assert sum(len(row["text"].encode()) for row in rows) == summary.num_bytes[name]
        assert 50_000 < summary.num_bytes[name] <= MAX_BYTES
        assert len({row["text"] for row in rows}) == len(rows)
    assert len(read(out / "reference.jsonl")) == summary.num_reference >= 20


def test_many_packages_contribute(harvested: tuple[Path, HarvestSummary]) -> None:
    rows = read(harvested[0] / "corpus" / "docstring.jsonl")
    packages = {row["meta"]["source"].partition(":")[0] for row in rows}
    assert {"stdlib", "numpy", "torch"} <= packages
    assert not {"pytest", "ruff", "mads"} & packages


def test_reference_items_are_not_in_the_corpus(harvested: tuple[Path, HarvestSummary]) -> None:
    out, _ = harvested
    corpus = "\n".join(
        f" {words(row['text'])} " for n in DOMAINS for row in read(out / "corpus" / f"{n}.jsonl")
    )
    items = read(out / "reference.jsonl")
    assert len({item["context"] for item in items}) == len(items)
    for item in items:
        assert item["continuation"].startswith(" ")
        assert 6 <= len(item["continuation"].split()) <= 12
        tail = words(item["context"]).split()[-8:]
        assert f" {' '.join(tail)} {words(item['continuation'])} " not in corpus
        assert words(item["context"] + item["continuation"]) not in corpus


def test_no_folder_of_this_machine_appears(harvested: tuple[Path, HarvestSummary]) -> None:
    paths = sysconfig.get_paths()
    for file in harvested[0].rglob("*.jsonl"):
        text = file.read_text(encoding="utf-8")
        for folder in (paths["stdlib"], paths["purelib"], sys.prefix):
            assert folder in ("/usr", "/usr/local") or folder not in text
    for name in DOMAINS:
        for row in read(harvested[0] / "corpus" / f"{name}.jsonl"):
            assert re.match(r"[a-z0-9-]+:[^/]", row["meta"]["source"])


def test_too_little_text_is_an_error_that_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        harvest(tmp_path / "out", max_bytes_per_domain=3_000)
    message = str(caught.value)
    assert "fewer than 20 documents of: code (" in message
    assert "licence (" in message
    assert sysconfig.get_paths()["stdlib"] in message
    assert "numpy" in message
    assert "3,000 bytes per domain" in message
    assert not (tmp_path / "out").exists()


def test_without_distributions_the_error_names_the_empty_domain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "distributions", list)
    with pytest.raises(DataError, match=r"licence \(\d+\).*packages stdlib"):
        harvest(tmp_path, max_bytes_per_domain=200_000)


def test_dependencies_are_those_of_the_project() -> None:
    requires = metadata.requires("mads") or []
    names = {re.split(r"[<>=~!;\[ ]", line)[0] for line in requires if "extra ==" not in line}
    assert names == set(DEPENDENCIES)


def test_a_source_checkout_finds_the_dependencies_too(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = [package.name for package in distributions()]
    real = metadata.distribution

    def without_mads(name: str) -> metadata.Distribution:
        if name == "mads":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "distribution", without_mads)
    assert [package.name for package in distributions()] == installed


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("numpy/lib/format.py", True),
        ("numpy/tests/test_ctypeslib.py", False),
        ("setuptools/_vendor/wheel/cli.py", False),
        ("numpy-2.0.dist-info/METADATA", True),
        ("numpy-2.0.dist-info/RECORD", False),
        ("numpy-2.0.dist-info/licenses/LICENSE.txt", True),
        ("numpy-2.0.dist-info/top_level.txt", False),
        ("_sysconfigdata__linux_x86_64-linux-gnu.py", False),
        ("../../../bin/f2py", False),
        ("LICENSE.txt", True),
        ("numpy/core.so", False),
    ],
)
def test_which_files_are_read(path: str, wanted: bool) -> None:
    assert is_text(path) is wanted


def test_docstrings_are_named_and_cleaned() -> None:
    source = (
        '"""Top."""\nif True:\n    class A:\n        def f(self):\n'
        '            """One.\n\n            Two.\n            """\n'
    )
    assert sorted(docstrings(source)) == [("", "Top."), ("A.f", "One.\n\nTwo.")]
    with pytest.raises(SyntaxError):
        list(docstrings("def f(:"))


def test_texts_split_at_headings_then_paragraphs_then_lines() -> None:
    text = "# One\n\nfirst words\n\n# Two\n\nmore words"
    assert split_text(text, min_chars=10, max_chars=100) == [
        "# One\n\nfirst words",
        "# Two\n\nmore words",
    ]
    paragraphs = "aaaa aaaa\n\nbbbb bbbb\n\ncccc"
    assert split_text(paragraphs, 5, 100) == ["aaaa aaaa", "bbbb bbbb", "cccc"]
    assert split_text("aaaa\nbbbb\ncccc", 50, 10) == ["aaaa\nbbbb", "cccc"]


def test_cloze_cuts_after_sixty_percent_at_a_space() -> None:
    text = "The quick brown fox jumps over the lazy dog again and again. " * 6
    item = cloze(text)
    assert item is not None
    assert len(item.context) >= 0.6 * len(text)
    assert text.startswith(item.context + item.continuation)
    assert len(item.continuation.split()) == 12
    assert cloze("Too short to cut.") is None
    assert cloze("x = [1, 2, 3]\n" * 40) is None


def test_a_held_out_file_leaves_with_every_copy_of_its_passage() -> None:
    def prose(tag: str) -> str:
        return " ".join(f"{tag}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz") * 4

    tags = ["word" + letter for letter in "abcdefghij"]
    documents = [Document("docstring", f"p:{n}", f"p:{n}:f", prose(n)) for n in tags]
    documents += [Document("code", d.file, d.file, f"x = 1  # {d.text[:5]}") for d in documents]
    copies = [Document("code", f"q:{n}", f"q:{n}", f"    {prose(n)}") for n in tags]
    reference, kept = hold_out([*documents, *copies], seed=0)
    assert len(reference) == 2  # a fifth of the files
    assert len(kept) == 30 - 3 * 2
    for item in reference:
        assert not any(item.continuation in document.text for document in kept)
    assert hold_out([*documents, *copies], seed=0) == (reference, kept)


def test_boilerplate_is_not_a_reference_item() -> None:
    text = "The quick brown fox jumps over the lazy dog again and again. " * 6
    documents = [Document("docstring", f"p:{n}", f"p:{n}:f", f"{n} {text}") for n in range(10)]
    assert hold_out(documents, seed=0) == ([], documents)


def test_files_that_are_not_utf8_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "latin.py"
    path.write_bytes("# déjà vu\n".encode("latin-1"))
    assert read_source(path) is None
    path.write_bytes(b"a = 1\r\n")
    assert read_source(path) == "a = 1\n"


def test_a_collector_refuses_copies_surrogates_and_folders() -> None:
    collector = module._Collector("code", max_bytes=20, forbidden={"/opt/here"})
    for text in ("one two", "one\n  two", "\ud800", "in /opt/here", "three", "x" * 20, "four"):
        collector.add("p:f", "p:f", text)
    assert [document.text for document in collector.documents] == ["one two", "three"]
    assert collector.num_bytes == 12
