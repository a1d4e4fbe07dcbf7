"""Intervals by row, and squares of numbers."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest

from mads.report.page.forest import Matrix, Measure, Row, forest, matrix


def circles(svg: str) -> list[tuple[float, str]]:
    ET.fromstring(svg)
    found = re.findall(r'<circle cx="([\d.]+)"[^>]*class="([^"]*)"', svg)
    return [(float(x), kind) for x, kind in found]


def test_dots_are_hollow_where_the_interval_holds_the_level() -> None:
    rows = [Row("a", -2, -3, -1), Row("b", 0.5, -1, 2), Row("c", 1), Row("d", None, text="–")]
    found = circles(forest("n", "t", "d", rows, Measure("x")))
    assert [kind for _, kind in found] == ["f h0", "hole bar h0", "f h0"]
    (a, _), (b, _), (c, _) = found
    assert (b - a) / (c - a) == pytest.approx(2.5 / 3, abs=0.01)


def test_ratios_are_placed_by_their_logarithms() -> None:
    rows = [Row("a", 0.5), Row("b", 1.0), Row("c", 2.0)]
    (a, _), (b, _), (c, _) = circles(forest("n", "t", "d", rows, Measure("x", 1, log=True)))
    assert c - b == pytest.approx(b - a, abs=0.2)


def test_a_bound_is_a_triangle_and_nan_is_nothing() -> None:
    rows = [Row("a", 0.7, text="< 0.7", bounded=True), Row("b", math.nan)]
    svg = forest("n", "t", "d", rows, Measure("x", 1, log=True))
    assert circles(svg) == []
    assert "nan" not in svg
    assert svg.count("<path") == 1
    assert "&lt; 0.7" in svg


def test_squares_have_their_numbers_and_blanks() -> None:
    found = Matrix(
        ("a", "b"), ("x", "y"), {("a", "x"): 0.5, ("a", "y"): -0.25, ("b", "x"): math.nan}
    )
    svg = matrix("n", "t", "d", found)
    ET.fromstring(svg)
    assert svg.count("<rect") == 2
    assert re.findall(r'class="f (h\d)" fill-opacity="([\d.]+)"', svg) == [
        ("h0", "0.56"),
        ("h1", "0.31"),
    ]
    assert ">0.50</text>" in svg
    assert "a, y: −0.25" in svg
    ET.fromstring(matrix("n", "t", "d", Matrix((), (), {})))
