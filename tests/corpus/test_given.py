"""Paths, patterns, lists and stdin; what is wrong with them is told before any work."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from mads.corpus.files import find_files
from mads.corpus.given import common_root, expand
from mads.corpus.places import Remote, place_of
from mads.errors import UsageError


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for name in ("a/1.jsonl", "a/2.jsonl", "b/1.jsonl.gz", "b/deep/3.parquet", "b/notes.doc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    return tmp_path


def names(corpus: Path, *given: str | Path) -> list[str]:
    return [str(place).removeprefix(f"{corpus}/") for place in find_files(given).files]


def test_patterns_stand_for_the_files_that_fit(corpus: Path) -> None:
    assert names(corpus, f"{corpus}/a/*.jsonl") == ["a/1.jsonl", "a/2.jsonl"]
    assert names(corpus, f"{corpus}/*/1.*") == ["a/1.jsonl", "b/1.jsonl.gz"]
    assert names(corpus, f"{corpus}/a/[2-9].jsonl", corpus / "b") == [
        "a/2.jsonl",
        "b/1.jsonl.gz",
        "b/deep/3.parquet",
    ]
    assert names(corpus, f"{corpus}/**/*.*") == [
        *("a/1.jsonl", "a/2.jsonl", "b/1.jsonl.gz", "b/deep/3.parquet")
    ]
    assert names(corpus, f"{corpus}/b*") == ["b/1.jsonl.gz", "b/deep/3.parquet"]
    assert find_files([f"{corpus}/*/1.*"]).root == corpus


def test_a_name_that_looks_like_a_pattern_is_a_name_first(corpus: Path) -> None:
    (corpus / "x[1].jsonl").write_text("{}")
    assert names(corpus, corpus / "x[1].jsonl") == ["x[1].jsonl"]
    (corpus / "@x.jsonl").write_text("{}")
    assert expand([str(corpus / "@x.jsonl")]) == [corpus / "@x.jsonl"]


def test_a_pattern_that_nothing_fits_is_told(corpus: Path) -> None:
    with pytest.raises(UsageError, match=r"/a/\*\.csv fits no corpus file\.$"):
        find_files([f"{corpus}/a/*.csv"])
    message = r"notes\* fits no corpus file, only .*notes\.doc, which has no known format\."
    with pytest.raises(UsageError, match=message):
        find_files([f"{corpus}/b/notes*"])


def test_a_list_has_a_path_on_each_line(corpus: Path) -> None:
    (corpus / "list.txt").write_text("# two of them\n\na/2.jsonl\r\n b/*.gz \n")
    assert names(corpus, f"@{corpus}/list.txt") == ["a/2.jsonl", "b/1.jsonl.gz"]
    (corpus / "list.txt").write_text("s3://bucket/x.jsonl\n/abs.jsonl\n")
    assert expand([f"@{corpus}/list.txt"]) == [Remote("s3://bucket/x.jsonl"), Path("/abs.jsonl")]
    for content, message in (
        (b"# nothing\n", r"list\.txt names no path\. Give one on each line\."),
        (b"caf\xe9\n", r"list\.txt is no list of paths: it is not UTF-8\."),
        (b'{"text": "a"}\n', r"list\.txt holds JSON \(.*\), expected a path on each line\."),
        (b"gone.jsonl\n", r"gone\.jsonl does not exist\."),
    ):
        (corpus / "list.txt").write_bytes(content)
        with pytest.raises(UsageError, match=message):
            find_files([f"@{corpus}/list.txt"])
    with pytest.raises(UsageError, match=r"the list .*none\.txt cannot be read: No such file"):
        find_files([f"@{corpus}/none.txt"])


def test_stdin_is_a_list_of_paths(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(corpus)

    def given(content: bytes) -> list[str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        return names(corpus, "-")

    assert given(b"a/1.jsonl\nb/1.jsonl.gz\n") == ["a/1.jsonl", "b/1.jsonl.gz"]
    with pytest.raises(UsageError, match=r"stdin holds JSON .* must lie in files, since a store"):
        given(b'{"text": "a document"}\n')
    with pytest.raises(UsageError, match="stdin names no path"):
        given(b"")


def test_an_address_and_a_path_are_not_one_corpus(corpus: Path) -> None:
    with pytest.raises(UsageError, match=r"corpus is a path and s3://b/x an address: one store"):
        common_root([Path("corpus"), Remote("s3://b/x")])
    places = [Remote("s3://b/x/y"), Remote("s3://b/x/z/w"), Remote("s3://b/x")]
    assert common_root(places) == Remote("s3://b/x")
    assert common_root(places[:1]) == places[0]
    assert place_of("file:///a/b") == Path("/a/b")
    assert place_of("a/b") == Path("a/b")
