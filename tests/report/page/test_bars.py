"""Stacked bars and rows of bars."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from mads.report.page.bars import PLOT, Bar, Stack, bar_rows, folded, stacked


def heights(svg: str) -> list[float]:
    ET.fromstring(svg)
    return [float(h) for h in re.findall(r'<rect[^>]* height="([\d.]+)"', svg)]


def test_heights_are_shares() -> None:
    stacks = [Stack("corpus", {"a": 0.25, "b": 0.75}), Stack("0", {"a": 1.0, "b": 0.0})]
    svg = stacked("n", "t", "d", stacks)
    gap = 0.8
    assert heights(svg) == pytest.approx([PLOT / 4 - gap, PLOT * 3 / 4 - gap, PLOT - gap], abs=0.06)
    assert "corpus, b: 75%" in svg
    assert ">b</text>" in svg  # it has no part of the last bar, but one of the first


def test_small_categories_are_added_up() -> None:
    shares = {f"c{i}": (i + 1) / 55 for i in range(10)}
    bars, names = folded([Stack("x", shares)])
    assert names == [f"c{i}" for i in range(2, 10)] + ["2 more"]
    assert bars[0].shares["2 more"] == pytest.approx(3 / 55)
    assert folded([Stack("x", {"a": 1.0})]) == ([Stack("x", {"a": 1.0})], ["a"])


def test_long_names_are_turned_and_many_rounds_fit() -> None:
    stacks = [Stack(f"a long name {i}", {"a": 1.0}) for i in range(6)]
    assert "rotate(-40)" in stacked("n", "t", "d", stacks)
    many = [Stack(str(i), {"a": 0.5, "b": 0.5}) for i in range(300)]
    svg = stacked("n", "t", "d", many)
    assert "rotate" not in svg
    xs = [float(x) for x in re.findall(r'<rect x="([\d.]+)"', svg)]
    assert 0 < min(xs) < max(xs) < 360


def test_rows_have_both_numbers() -> None:
    svg = bar_rows("n", "t", "d", [Bar("a", 0.5, 0.25), Bar("b", 0.0, 0.75)], ("docs", "tokens"))
    ET.fromstring(svg)
    assert "50% · 25%" in svg
    assert "b: 0% docs, 75% tokens" in svg
