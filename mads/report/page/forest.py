"""Numbers with their intervals, one a row; and tables of numbers as coloured squares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mads.report.page.scale import (
    Scale,
    domain,
    fixed,
    log_domain,
    nice_ticks,
    number,
    ratio_ticks,
)
from mads.report.page.svg import (
    LONGEST,
    WIDTH,
    Frame,
    cut,
    element,
    label,
    line,
    marked,
    picture,
    text_width,
    widest,
    x_axis,
)

ROW = 18.0
HEAD = 8.0


@dataclass(frozen=True, slots=True)
class Row:
    """A number with its interval; without ``low`` and ``high`` there is none.

    ``mean`` None is a row without a number. ``bounded`` says that the number is an upper bound.
    ``text`` stands at the right; ``strong`` rows sum up others.
    """

    name: str
    mean: float | None
    low: float | None = None
    high: float | None = None
    text: str = ""
    strong: bool = False
    bounded: bool = False

    @property
    def values(self) -> list[float]:
        """What has to be in the picture."""
        return [v for v in (self.mean, self.low, self.high) if v is not None and math.isfinite(v)]


@dataclass(frozen=True, slots=True)
class Measure:
    """The axis below: its title, the level of no difference, and whether it is of ratios."""

    title: str
    level: float = 0.0
    log: bool = False
    around: tuple[float, ...] = ()  # numbers of other figures with the same axis


def forest(name: str, title: str, text: str, rows: Sequence[Row], measure: Measure) -> str:
    """Return a row for each number: a dot and its interval; hollow where it holds the level."""
    values = [v for row in rows for v in row.values] + [*measure.around]
    low, high = log_domain(values) if measure.log else domain([*values, measure.level], 0.06)
    left = 1.04 * widest([cut(row.name, LONGEST + 2) for row in rows]) + 10
    right = WIDTH - 12 - 1.06 * widest([row.text for row in rows])
    bottom = HEAD + ROW * len(rows) + 4
    frame = Frame(Scale(low, high, left, right, measure.log), Scale(0, 1, bottom, HEAD))
    ticks = ratio_ticks(low, high) if measure.log else nice_ticks(low, high, 4)
    parts = [line(frame.x(t), HEAD, frame.x(t), bottom, "grid") for t in ticks]
    level = frame.x(measure.level)
    parts.append(line(level, HEAD - 4, level, bottom, "axis bar"))
    for index, row in enumerate(rows):
        parts += _row(row, HEAD + ROW * (index + 0.5), frame, measure.level)
    parts += x_axis(frame, [(tick, number(tick)) for tick in ticks], measure.title)
    return picture(name, title, text, bottom + 36, parts)


def _row(row: Row, y: float, frame: Frame, level: float) -> list[str]:
    words = "b" if row.strong else ""
    parts = [
        label(frame.left - 6, y, cut(row.name, LONGEST + 2), words, "end"),
        label(frame.right + 8, y, row.text, f"mute {words}".strip()),
    ]
    if row.mean is None or not math.isfinite(row.mean):
        return parts
    x, shape = frame.x(row.mean), ""
    known = row.low is not None and row.high is not None
    if row.low is not None and row.high is not None:
        shape += line(frame.x(row.low), y, frame.x(row.high), y, "bar h0")
        shape += "".join(
            line(frame.x(v), y - 3, frame.x(v), y + 3, "bar h0") for v in (row.low, row.high)
        )
    clear = known and not (row.low or 0) <= level <= (row.high or 0)
    if row.bounded:
        d = f"M{x - 9:.1f},{y:.1f} {x - 1:.1f},{y - 4.5:.1f} {x - 1:.1f},{y + 4.5:.1f}Z"
        shape += element("path", d=d, class_="f h0")
    else:
        size = 4.6 if row.strong else 3.8
        fill = "f h0" if clear or not known else "hole bar h0"
        shape += element("circle", cx=x, cy=y, r=size, class_=fill)
    return [*parts, marked(shape, f"{row.name}: {row.text or number(row.mean)}")]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Numbers by row and column; a missing one is left blank."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Mapping[tuple[str, str], float]


def matrix(name: str, title: str, text: str, found: Matrix, decimals: int | None = None) -> str:
    """Return squares, each with its number: blue above 0, orange below, stronger further away."""
    finite = [abs(v) for v in found.values.values() if math.isfinite(v)]
    largest = max(finite, default=0.0) or 1.0
    if decimals is None:
        decimals = min(max(1 - math.floor(math.log10(largest)), 0), 8)
    left = widest([cut(n, LONGEST + 4) for n in found.rows]) + 12
    width = min((WIDTH - left - 4) / max(len(found.columns), 1), 90.0)
    turned = widest([cut(n) for n in found.columns]) > width - 4
    head = 22.0 if not turned else 16 + 0.62 * widest([cut(n) for n in found.columns])
    parts = []
    for index, column in enumerate(found.columns):
        x = left + (index + 0.5) * width
        tag = label(0, 0, cut(column), "mute", "start" if turned else "middle")
        turn = " rotate(-40)" if turned else ""
        parts.append(element("g", tag, transform=f"translate({x:.1f} {head - 10:.1f}){turn}"))
    for i, row in enumerate(found.rows):
        y = head + 20 * i
        parts.append(label(left - 6, y + 9.5, cut(row, LONGEST + 4), "", "end"))
        for j, column in enumerate(found.columns):
            value = found.values.get((row, column), math.nan)
            if not math.isfinite(value):
                continue
            shown = fixed(value, decimals)
            x = left + j * width
            parts.append(_square(x, y, width, (value, largest), shown, f"{row}, {column}: {shown}"))
    return picture(name, title, text, head + 20 * len(found.rows) + 6, parts)


def _square(
    x: float, y: float, width: float, value: tuple[float, float], shown: str, words: str
) -> str:
    strength = 0.06 + 0.5 * abs(value[0]) / value[1]
    colour = "h0" if value[0] >= 0 else "h1"
    shape = element(
        "rect",
        x=x,
        y=y,
        width=width - 1.5,
        height=18.5,
        class_=f"f {colour}",
        fill_opacity=f"{strength:.2f}",
        rx=2,
    )
    if text_width(shown) < width:
        shape += label(x + width / 2, y + 9.5, shown, "", "middle")
    return marked(shape, words)
