"""`mads report` from the command line."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from command import mads
from report.page.pages import check


def test_a_page_and_its_figures(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, svg = tmp_path / "deep" / "page.html", tmp_path / "figures"
    arguments = ("report", folder / "run", "--store", folder / "store", "--out", out)
    code, text, _ = mads(capsys, *arguments, "--svg", svg, "--json")
    assert code == 0
    found = json.loads(text)
    content = out.read_text(encoding="utf-8")
    page = check(content)
    assert (found["out"], found["num_bytes"]) == (str(out), len(content.encode()))
    assert found["figures"] == page.tags.count("figure")
    assert found["svg"] == [str(path) for path in map(Path, found["svg"]) if path.is_file()]
    assert {"training-loss.svg", "theta.svg"} <= {path.name for path in svg.iterdir()}
    for path in svg.iterdir():
        ET.parse(path)
    code, _, err = mads(capsys, *arguments)  # over the page that is there
    assert code == 0
    assert "figures" in err


def test_the_same_run_makes_the_same_page(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        assert mads(capsys, "report", folder / "run", "--out", tmp_path / name)[0] == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("path", "out", "message"),
    [
        ("nowhere", "page.html", "nowhere does not exist. Give a run or a comparison."),
        ("store", "page.html", "store is neither a run nor a comparison. Give the folder"),
        ("run", "corpus.jsonl", "is there already, and `mads report` has not made it"),
        ("run", "run", "is a folder. Give a file as --out"),
    ],
)
def test_what_cannot_be_done(
    folder: Path, path: str, out: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text, err = mads(capsys, "report", folder / path, "--out", folder / out)
    assert (code, text) == (2, "")
    assert message in err.replace("\n", " ")
    assert not (folder / "page.html").exists()


def test_a_store_that_is_missing_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    code, _, err = mads(capsys, "report", folder / "run", "--store", tmp_path / "no", "--out", out)
    assert code == 2
    assert "does not exist" in err
    assert not out.exists()
