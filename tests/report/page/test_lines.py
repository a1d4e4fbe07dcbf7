"""Lines: points at their places, names beside their ends."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ET

from mads.report.page.lines import MANY, Axes, Line, line_chart, ranked, trained

AXES = Axes("step", "loss")


def chart(*lines: Line, axes: Axes = AXES) -> str:
    svg = line_chart("name", "title", "text", lines, axes)
    ET.fromstring(svg)
    assert "nan" not in svg
    return svg


def path(svg: str, colour: str) -> list[tuple[float, float]]:
    """Return the points of a line."""
    found = re.search(rf'<path d="M([^"Z]*)" class="l {colour}"', svg)
    assert found is not None
    pairs = [pair.split(",") for pair in found[1].split()]
    return [(float(x), float(y)) for x, y in pairs]


def test_points_are_where_they_belong() -> None:
    """The lowest loss is lowest in the picture, and half the way is half the way."""
    (x1, y1), (x2, y2), (x3, y3) = path(chart(Line("a", ((0, 4), (5, 3), (10, 2)))), "h0")
    assert x1 < x2 < x3
    assert y1 < y2 < y3
    assert abs((x1 + x3) / 2 - x2) < 0.11
    assert abs((y1 + y3) / 2 - y2) < 0.11


def test_lines_differ_by_dash_and_carry_their_names() -> None:
    svg = chart(Line("one", ((0, 1), (1, 2)), 0), Line("two", ((0, 2), (1, 1)), 1))
    assert svg.count("stroke-dasharray") == 1
    assert ">one</text>" in svg
    assert "one, step 1: 2" in svg


def test_names_do_not_touch() -> None:
    svg = chart(*(Line(f"n{i}", ((0, 1), (1, 1)), i) for i in range(6)))
    ys = sorted(float(y) for y in re.findall(r'y="([\d.]+)"[^>]*class="h\d">n\d', svg))
    assert len(ys) == 6
    assert all(b - a > 12 for a, b in itertools.pairwise(ys))


def test_what_is_not_finite_is_left_out() -> None:
    band = ((0.0, 1.0), (math.nan, 2.0), (1.0, 3.0))
    svg = chart(Line("a", ((0, 1), (1, math.inf), (2, 3)), 0, (0, 1, 2), band))
    assert len(path(svg, "h0")) == 2
    assert 'class="f band h0"' in svg
    assert chart(Line("nothing", ((0, math.nan),)))
    assert chart()


def test_a_single_interval_is_a_line() -> None:
    assert 'class="thin h0"' in chart(Line("a", ((0, 1), (1, 2)), 0, (1.0,), ((1.5, 2.5),)))


def test_many_points_are_not_marked_one_by_one() -> None:
    few, many = (Line("a", tuple((i, i) for i in range(n))) for n in (MANY, MANY + 1))
    assert chart(few).count('class="f h0"') == MANY
    assert chart(many).count('class="f h0"') == 0


def test_only_whole_numbers_of_rounds() -> None:
    line = Line("a", ((0, 1), (1, 2)))
    assert ">0.2</text>" in chart(line, axes=Axes("round", "w"))
    assert (
        re.findall(
            r'class="mute">(0\.2|1)</text>', chart(line, axes=Axes("round", "w", whole=True))
        )[-1]
        == "1"
    )


def test_colours_go_to_the_largest() -> None:
    assert ranked({"a": 1, "b": -3, "c": 2}, 3) == {"a": 0, "b": 1, "c": 2}
    assert ranked({"a": 1, "b": -3, "c": 2}, 2) == {"a": None, "b": 0, "c": 1}


def test_the_untrained_loss_is_left_out_of_longer_curves() -> None:
    assert trained([(0, 9), (1, 3), (2, 2)]) == ((0, 9), (1, 3), (2, 2))
    assert trained([(0, 9), (1, 3), (2, 2), (3, 1)]) == ((1, 3), (2, 2), (3, 1))
    assert len(trained([(1, 9), (2, 3), (3, 2), (4, 1)])) == 4
