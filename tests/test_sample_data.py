"""The hand-written files in data/ have the fields, labels and variety that data/README.md says."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[1] / "data"
SHIPPED = Path(__file__).parents[1] / "mads" / "recipes"
DOMAINS = {"ArXiv", "Book", "C4", "CommonCrawl", "Github", "StackExchange", "Wikipedia"}
TOPICS = {
    "Activity",
    "Education",
    "Entertainment",
    "Finance",
    "Health",
    "Business and Industrial",
    "Infrastructure",
    "Literature and Art",
    "Nature",
    "Others",
    "Law and Government",
    "Networking",
    "Technology",
}


def read(name: Path) -> list[dict[str, Any]]:
    text = name.read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


@pytest.fixture(scope="module")
def sample() -> list[dict[str, Any]]:
    return read(DATA / "sample.jsonl")


@pytest.fixture(scope="module")
def cloze() -> list[dict[str, Any]]:
    return read(SHIPPED / "cloze.jsonl")


def test_documents_have_their_fields(sample: list[dict[str, Any]]) -> None:
    for row in sample:
        assert set(row) == {"text", "meta"}
        assert set(row["meta"]) == {"redpajama_set_name", "topic", "quality", "id"}
        assert 20 <= len(row["text"].split()) <= 250
        assert isinstance(row["meta"]["quality"], float)
        assert 0 <= row["meta"]["quality"] <= 5
    for key in ("text", "id"):
        values = [row["text"] if key == "text" else row["meta"][key] for row in sample]
        assert len(set(values)) == len(values)


def test_documents_cover_domains_topics_and_qualities(sample: list[dict[str, Any]]) -> None:
    domains = Counter(row["meta"]["redpajama_set_name"] for row in sample)
    topics = Counter(row["meta"]["topic"] for row in sample)
    assert set(domains) == {f"RedPajama{name}" for name in DOMAINS}
    assert set(topics) == TOPICS
    assert min(domains.values()) >= 7
    assert min(topics.values()) >= 4
    assert {int(row["meta"]["quality"]) for row in sample} == {0, 1, 2, 3, 4}


def test_python_documents_parse(sample: list[dict[str, Any]]) -> None:
    programs = [r["text"] for r in sample if r["meta"]["id"].startswith("github-python")]
    assert len(programs) == 7
    for text in programs:
        ast.parse(text)


def test_styles_fit_their_domains(sample: list[dict[str, Any]]) -> None:
    for row in sample:
        domain = row["meta"]["redpajama_set_name"]
        assert domain != "RedPajamaStackExchange" or re.match(r"Q: .+\n\nA: ", row["text"], re.S)
        assert domain != "RedPajamaArXiv" or "\\" in row["text"]


def test_cloze_items_are_short_and_different(cloze: list[dict[str, Any]]) -> None:
    assert len({item["context"] for item in cloze}) == len(cloze)
    for item in cloze:
        assert set(item) == {"context", "continuation"}
        assert item["context"].strip()
        assert 1 <= len(item["continuation"].split()) <= 4
        # A word is cut from its neighbour by one space, which belongs to the continuation.
        assert not (item["context"].endswith(" ") and item["continuation"].startswith(" "))


def test_the_readme_gives_the_right_numbers(
    sample: list[dict[str, Any]], cloze: list[dict[str, Any]]
) -> None:
    text = (DATA / "README.md").read_text(encoding="utf-8")
    assert f"holds {len(sample)} short documents" in text
    assert f"holds {len(cloze)} items" in text
