"""The page of a comparison has its numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from report.compared import SEEDS
from report.page.pages import EVIL, check

from mads.experiments.arms import Arms
from mads.layout import ComparisonDir
from mads.report.compare import HELD_OUT, REFERENCES, Arm, Needed, compare
from mads.report.page.arms import ComparisonData
from mads.report.page.comparison_page import comparison_page
from mads.report.page.html import render
from mads.report.page.scale import fixed, signed
from mads.store.store import Store


@pytest.fixture(scope="session")
def data(folder: Path, root: Path, arms: Arms) -> ComparisonData:
    found = compare(Store(folder / "store"), ComparisonDir(root), arms, SEEDS)
    changes = {"natural": (), "online": ("selection.policy: 'random' -> 'sample'",)}
    progress = {(arm, seed): (10, True) for arm in found.arms for seed in SEEDS}
    return ComparisonData("small", found, True, progress, 10, changes)


def test_it_contains_the_comparisons_numbers(data: ComparisonData) -> None:
    page = check(render(comparison_page(data)))
    online = data.found.arms["online"]
    for group in (REFERENCES, HELD_OUT):
        difference = online.mean_differences[group]
        assert difference.low is not None
        assert signed(difference.mean) in page.text
        assert signed(difference.low, 4) in page.text
        losses = [run.curve.means[group][-1] for run in online.runs]
        assert fixed(sum(losses) / 2, 4) in page.text
        assert fixed(max(losses), 4) in page.text
    assert f"{data.found.parameters:,}" in page.text
    assert "selection.policy: 'random' -> 'sample'" in page.text
    assert "1 arm against natural, seeds 0, 3" in page.text
    assert not comparison_page(data).notes


def test_one_seed_and_a_comparison_that_goes_on_are_told(data: ComparisonData) -> None:
    found = replace(data.found, seeds=(0,))
    notes = comparison_page(replace(data, found=found, ended=False)).notes
    assert "still going on" in notes[0]
    assert "One seed says nothing of the spread" in notes[1]


def test_a_bound_and_nothing_are_shown(data: ComparisonData) -> None:
    online = data.found.arms["online"]
    needed = {REFERENCES: Needed((5.0, None), None, 0.75), HELD_OUT: Needed((0.0, 0.0), None, None)}
    arms: dict[str, Arm] = {**data.found.arms, "online": replace(online, needed=needed)}
    page = check(render(comparison_page(replace(data, found=replace(data.found, arms=arms)))))
    assert "< 0.75×" in page.text
    assert "5, over 5,120" in page.text


def test_the_baseline_alone_is_a_page(data: ComparisonData) -> None:
    arms = {"natural": data.found.arms["natural"]}
    titles = [
        section.title
        for section in comparison_page(replace(data, found=replace(data.found, arms=arms))).sections
    ]
    assert titles == ["Loss", "What was read", "Cost", "Settings"]


def test_hostile_names_are_texts(data: ComparisonData) -> None:
    arms = {"natural": data.found.arms["natural"], EVIL: data.found.arms["online"]}
    changes = {"natural": (), EVIL: (EVIL,)}
    evil = replace(data, name=EVIL, found=replace(data.found, arms=arms), changes=changes)
    html = render(comparison_page(evil))
    check(html)
    assert html.count("alert(1)") == html.count("&lt;script&gt;alert(1)")
