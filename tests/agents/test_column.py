"""The ``column`` back-end."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mads.agents.agent import QuantileBins
from mads.agents.column import ColumnConfig, open_column
from mads.errors import DataError, UsageError
from mads.types import Agent, DocumentBatch, Status

NAMED = ColumnConfig(
    "column",
    field="meta.set",
    categories=("Book", "GitHub", "Web"),
    rename={"RedPajamaBook": "Book", "C4": "Web"},
)
NUMBERED = ColumnConfig(
    "column", field="score", categories=("a", "b", "c", "d", "e"), edges=(1, 2, 3, 4)
)


def batch(config: ColumnConfig, values: list[Any]) -> DocumentBatch:
    n = len(values)
    return DocumentBatch(["x"] * n, [Status.OK] * n, [1] * n, {config.field: values})


def opened(config: ColumnConfig) -> Agent:
    agent = open_column("mine", config)
    assert not isinstance(agent, QuantileBins)
    return agent


def categories_of(config: ColumnConfig, values: list[Any]) -> list[str]:
    agent = opened(config)
    labels = agent.label(batch(config, values))
    assert labels.category_N.dtype == np.uint16
    assert labels.score_N.dtype == np.float32
    return [agent.categories[i] for i in labels.category_N]


def test_a_value_is_a_category_or_is_renamed_to_one() -> None:
    found = categories_of(NAMED, ["GitHub", "RedPajamaBook", "C4", "Book"])
    assert found == ["GitHub", "Book", "Web", "Book"]
    scores = opened(NAMED).label(batch(NAMED, ["C4", "Book"])).score_N
    assert scores.tolist() == [1.0, 1.0]


def test_rename_wins_over_a_category_of_the_same_name() -> None:
    assert categories_of(replace(NAMED, rename={"Book": "Web"}), ["Book"]) == ["Web"]


def test_other_takes_unknown_and_absent_values() -> None:
    assert categories_of(replace(NAMED, other="Web"), ["??", None]) == ["Web", "Web"]


def test_numbers_and_booleans_are_compared_by_their_text() -> None:
    config = replace(NAMED, categories=("0", "1", "True"), rename={})
    assert categories_of(config, [1, True, 0, "0"]) == ["1", "True", "0", "0"]


def test_bins_are_closed_at_both_ends_and_clamp() -> None:
    values = [-1, 0, 0.999, 1, 1.5, 2, 3.999, 4, 5.0, 7.3, "2.5"]
    assert "".join(categories_of(NUMBERED, values)) == "aaabbcdeeec"
    scores = opened(NUMBERED).label(batch(NUMBERED, [5.0, -1, 7.25])).score_N
    assert scores.tolist() == [5.0, -1.0, 7.25]


def test_with_quantiles_a_number_is_a_score() -> None:
    config = ColumnConfig("column", field="score", quantiles=3, other="q2")
    agent = open_column("mine", config)
    assert isinstance(agent, QuantileBins)
    assert (agent.categories, agent.other) == (("q1", "q2", "q3"), 1)
    scores = agent.score(batch(config, [4.5, None, "7", "high"]))
    assert scores.known_N.tolist() == [True, False, True, False]
    assert scores.score_N.tolist() == [4.5, 0, 7, 0]
    named = replace(config, categories=("low", "mid", "top"), other="")
    assert open_column("mine", named).categories == ("low", "mid", "top")


def test_other_takes_what_is_no_number() -> None:
    config = replace(NUMBERED, other="c")
    agent = opened(config)
    labels = agent.label(batch(config, [None, "high", True, [1], 4.5]))
    assert labels.category_N.tolist() == [2, 2, 2, 2, 4]
    assert labels.score_N.tolist() == [0, 0, 0, 0, 4.5]


def test_an_empty_batch_has_no_labels() -> None:
    for config in (NAMED, NUMBERED):
        assert categories_of(config, []) == []


@pytest.mark.parametrize(
    ("config", "value", "message"),
    [
        (
            NAMED,
            "ArXiv",
            "agent 'mine': field 'meta.set' holds 'ArXiv', which is no category; the categories "
            "are Book, GitHub, Web. Add it to agents.mine.categories (or .rename), or set "
            "agents.mine.other",
        ),
        (NAMED, None, "holds no value, which is no category"),
        (NAMED, "x" * 500, "x" * 60 + "'… (500 characters), which"),
        (NUMBERED, "high", "holds 'high', which is no number"),
        (
            NUMBERED,
            None,
            "holds no value, which is no number; the categories are a, b, c, d, e. Set",
        ),
        (NUMBERED, True, "holds True, which is no number"),
        (replace(NUMBERED, other="a"), float("nan"), "holds nan, which is not a finite number"),
        (NUMBERED, "NaN", "holds 'NaN', which is not a finite number"),
        (NUMBERED, float("inf"), "holds inf, which is not a finite number"),
        (NUMBERED, 1e300, "holds 1e+300, which is not a finite number"),
        (NUMBERED, 10**400, "which is not a finite number"),
    ],
)
def test_a_value_without_a_place_is_refused(
    config: ColumnConfig, value: object, message: str
) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        opened(config).label(batch(config, [value]))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(NAMED, field=""), "agents.mine.field: the back-end 'column' needs the dotted"),
        (replace(NAMED, categories=(), rename={}), "agents.mine.categories: the back-end"),
        (
            ColumnConfig("column", field="x", quantiles=5, categories=("a", "b")),
            "agents.mine.categories: found 2, but quantiles makes 5 bins; give as many names",
        ),
        (
            ColumnConfig("column", field="x", quantiles=1),
            "agents.mine.quantiles: found 1, expected",
        ),
        (
            replace(NAMED, rename={"x": "Bok"}),
            "agents.mine.rename: 'x' becomes 'Bok', which is no category; did you mean 'Book'?",
        ),
        (replace(NAMED, other="Wbe"), "agents.mine.other: 'Wbe' is no category; did you mean"),
        (
            replace(NAMED, categories=("Book", "Web", "Book")),
            "agents.mine.categories: listed more than once: Book",
        ),
        (
            replace(NUMBERED, edges=(1.0, 2.0)),
            "agents.mine.edges: 2 edges make 3 bins, but there are 5 categories",
        ),
        (replace(NUMBERED, edges=(1, 3, 2, 4)), "agents.mine.edges: [1, 3, 2, 4] do not rise"),
        (replace(NUMBERED, edges=(1, 2, 2, 4)), "[1, 2, 2, 4] do not rise"),
        (replace(NUMBERED, edges=(1, 2, 3, float("nan"))), "are not all finite"),
        (replace(NUMBERED, rename={"5": "e"}), "use rename or edges, not both"),
        (replace(NUMBERED, quantiles=5), "agents.mine.quantiles: found edges too; use one of them"),
        (
            ColumnConfig("column", field="x", quantiles=5, rename={"a": "q1"}),
            "agents.mine.rename: a number has no names; use rename or quantiles, not both",
        ),
        (
            ColumnConfig("column", field="x", quantiles=5, other="q6"),
            "agents.mine.other: 'q6' is no category; known: q1, q2, q3, q4, q5",
        ),
        (
            replace(NAMED, categories=tuple(str(i) for i in range(65_535)), rename={}),
            "agents.mine.categories: found 65535, at most 65534 are possible",
        ),
    ],
)
def test_a_section_that_describes_no_agent_is_refused(config: ColumnConfig, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        open_column("mine", config)


def test_all_problems_are_told_at_once() -> None:
    config = ColumnConfig("column", other="x")
    with pytest.raises(UsageError) as caught:
        open_column("mine", config)
    assert str(caught.value).count("\n  agents.mine.") == 3


@pytest.mark.parametrize(
    "changed",
    [
        replace(NAMED, field="meta.other"),
        replace(NAMED, categories=("GitHub", "Book", "Web")),
        replace(NAMED, rename={"RedPajamaBook": "Web", "C4": "Web"}),
        replace(NAMED, other="Web"),
        replace(NAMED, rename={}, edges=(1.0, 2.0)),
        replace(NAMED, rename={}, quantiles=3),
    ],
)
def test_the_fingerprint_follows_all_that_changes_a_label(changed: ColumnConfig) -> None:
    fingerprint = open_column("mine", NAMED).fingerprint
    same = replace(NAMED, rename=dict(reversed(NAMED.rename.items())))
    assert open_column("yours", same).fingerprint == fingerprint
    assert open_column("mine", changed).fingerprint != fingerprint
