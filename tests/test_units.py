"""Sizes, counts, budgets and parts as people write them."""

from __future__ import annotations

import json

import pytest

from mads.errors import UsageError
from mads.units import (
    Budget,
    parse_budget,
    parse_bytes,
    parse_count,
    parse_digits,
    parse_part,
    shorten,
    visible,
    visible_json,
)


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


def test_a_budget_is_one_of_three() -> None:
    def total() -> int:
        return 1001

    assert parse_budget("5M", "", "", total) == Budget(5_000_000, "tokens")
    assert parse_budget("", "10K", "", total) == Budget(10_000, "docs")
    assert parse_budget("", "", "0.5", total) == Budget(500, "tokens")
    assert parse_budget("", "", "1e-9", total) == Budget(1, "tokens")
    assert str(parse_budget("", "", "1", total)) == "1001 tokens"
    for options in (("", "", ""), ("1", "1", ""), ("1", "", "0.5")):
        with pytest.raises(UsageError, match="give one of --tokens 5M, --docs 10K and --fraction"):
            parse_budget(*options, total)


@pytest.mark.parametrize("text", ["0", "-1", "1.01", "nan", "inf", "half", "9" * 5000])
def test_what_is_no_fraction_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--fraction '.*: expected more than 0 and at most 1\."):
        parse_budget("", "", text, lambda: 1)


@pytest.mark.parametrize(
    "text",
    ["3/3", "-1/2", "1", "a/b", "1/0", "/2", "²/8", "1/²", "1" * 5000 + "/2", "0/" + "9" * 21],
)
def test_a_part_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"--shard .*expected i/n with i from 0 to n - 1"):
        parse_part(text)


def test_parts_and_digits() -> None:
    assert parse_part("0/1") == (0, 1)
    assert parse_part("02/8") == (2, 8)
    assert parse_digits("0017") == 17
    assert [parse_digits(text) for text in ("", "-1", "٣", "1_0", "9" * 21)] == [None] * 5


def test_sizes() -> None:
    assert [parse_bytes(text) for text in ("1", "4GB", "500 MiB")] == [1, 4 * 10**9, 500 * 2**20]
    for text in ("", "much", "0", "-1GB", "nan", "1e400"):
        with pytest.raises(UsageError, match="is not a size; write 4GB, say"):
            parse_bytes(text)


def test_a_long_text_is_cut() -> None:
    assert shorten("x'y") == '"x\'y"'
    assert shorten("é" * 70) == f"'{'é' * 60}'… (70 characters)"
    assert shorten(10**5000) == "a number of more than 60 digits"
    assert shorten([1] * 50) == "[" + "1, " * 19 + "1,…"
    assert shorten(None) == "None"


def test_what_is_visible_stays_as_it_is() -> None:
    for text in ("plain", "日本 🦉", "naïve café", "👩‍👩‍👧", "[red]x"):
        assert visible(text) == text
    assert visible("a\tb\nc") == r"a\tb\nc"
    assert visible("a\tb\nc", keep="\n") == "a\\tb\nc"


def test_json_keeps_its_value() -> None:
    value = {"a\x1b\x9b\u202e": ["\u2028", "\ud800", "日本", "\n"]}
    text = visible_json(json.dumps(value, ensure_ascii=False, indent=1))
    assert json.loads(text) == value
    assert "日本" in text
    assert not set(text) & set("\x1b\x9b\u202e\u2028\ud800")
