"""Lines over steps or tokens, each with its name at its end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mads.report.page.scale import Scale, domain, nice_ticks, number, short, spread
from mads.report.page.svg import (
    DASHES,
    LINE,
    WIDTH,
    Frame,
    cut,
    element,
    hue,
    label,
    line,
    marked,
    picture,
    widest,
    x_axis,
    y_axis,
)

Point = tuple[float, float]
NAMED = 20  # lines up to which the grey ones have their names beside them, too
MANY = 40  # points of a line from which on they are not marked one by one
TOP, BELOW, PLOT = 28.0, 36.0, 178.0


@dataclass(frozen=True, slots=True)
class Line:
    """A line, or a band alone where there are no points; ``colour`` None is grey.

    ``band`` has low and high at each of ``at``.
    """

    name: str
    points: tuple[Point, ...]
    colour: int | None = 0
    at: tuple[float, ...] = ()
    band: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class Axes:
    """What stands at the axes; ``reference`` is a level that is drawn through.

    ``whole`` says that only whole numbers mean something along x.
    """

    x: str
    y: str
    zero: bool = False
    reference: float | None = None
    whole: bool = False


def line_chart(name: str, title: str, text: str, lines: Sequence[Line], axes: Axes) -> str:
    """Return a chart of lines; what is not finite is left out."""
    lines = [_finite(one) for one in lines]
    few = len(lines) <= NAMED
    named = [one for one in lines if one.points and one.name and (few or one.colour is not None)]
    frame, ticks = _frame(lines, named, axes)
    height = frame.bottom + BELOW
    parts = y_axis(frame, ticks, axes.y)
    along = nice_ticks(frame.x.low, frame.x.high, 4)
    along = [t for t in along if not axes.whole or t == round(t)]
    parts += x_axis(frame, [(t, short(t)) for t in along], axes.x)
    if axes.reference is not None:
        y = frame.y(axes.reference)
        parts.append(line(frame.left, y, frame.right, y, "axis"))
    for index, one in enumerate(lines):
        parts += _band(one, frame, 3.5 * (index - len(lines) / 2))
    for one in sorted(lines, key=lambda one: one.colour is not None):
        parts += _path(one, frame, axes)
    parts += _names(named, frame)
    return picture(name, title, text, height, parts)


def _finite(one: Line) -> Line:
    kept = [
        (x, pair) for x, pair in zip(one.at, one.band, strict=True) if all(map(math.isfinite, pair))
    ]
    points = tuple(point for point in one.points if math.isfinite(point[1]))
    return Line(one.name, points, one.colour, tuple(x for x, _ in kept), tuple(p for _, p in kept))


def _frame(
    lines: Sequence[Line], named: Sequence[Line], axes: Axes
) -> tuple[Frame, list[tuple[float, str]]]:
    xs = [x for one in lines for x in (*(p[0] for p in one.points), *one.at)]
    ys = [
        y for one in lines for y in (*(p[1] for p in one.points), *(v for b in one.band for v in b))
    ]
    ys += [axes.reference] if axes.reference is not None else []
    low, high = domain(ys, zero=axes.zero)
    ticks = [(tick, number(tick)) for tick in nice_ticks(low, high)]
    left = widest([text for _, text in ticks]) + 12
    right = WIDTH - 9 - widest([cut(one.name) for one in named]) - 6
    bottom = TOP + max(PLOT, LINE * len(named))
    x_low, x_high = domain(xs, 0.0)
    return Frame(Scale(x_low, x_high, left, right), Scale(low, high, bottom, TOP)), ticks


def _band(one: Line, frame: Frame, aside: float) -> list[str]:
    """Return the area between low and high; at a single point, a line there, a little aside."""
    if len(one.band) == 1:
        x = min(max(frame.x(one.at[0]) + aside, frame.left), frame.right)
        low, high = (frame.y(value) for value in one.band[0])
        return [line(x, low, x, high, f"thin {hue(one.colour)}")]
    if not one.band:
        return []
    there = [(x, low) for x, (low, _) in zip(one.at, one.band, strict=True)]
    back = [(x, high) for x, (_, high) in zip(one.at, one.band, strict=True)]
    places = _places([*there, *back[::-1]], frame)
    return [element("path", d=f"M{places}Z", class_=f"f band {hue(one.colour)}")]


def _path(one: Line, frame: Frame, axes: Axes) -> list[str]:
    if not one.points:
        return []
    colour = hue(one.colour)
    dash = DASHES[(one.colour or 0) % len(DASHES)]
    dashed = {"stroke_dasharray": dash} if dash else {}
    d = "M" + _places(one.points, frame)
    kind = f"l {colour}" if one.colour is not None else f"thin {colour}"
    last = one.points[-1]
    shapes = element("path", d=d, class_=kind, **dashed) + element("path", d=d, class_="hit")
    parts = [marked(shapes, _words(one, last, axes))]
    if len(one.points) > MANY or one.colour is None:
        return parts
    for x, y in one.points:
        dot = element("circle", cx=frame.x(x), cy=frame.y(y), r=2.4, class_=f"f {colour}")
        aim = element("circle", cx=frame.x(x), cy=frame.y(y), r=7.0, class_="hit")
        parts.append(marked(dot + aim, _words(one, (x, y), axes)))
    return parts


def _words(one: Line, point: Point, axes: Axes) -> str:
    return f"{one.name}, {axes.x} {short(point[0])}: {number(point[1], 4)}"


def _places(points: Sequence[Point], frame: Frame) -> str:
    return " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)


def _names(named: Sequence[Line], frame: Frame) -> list[str]:
    """Return each line's name beside its end, with a thin line to it where it had to move."""
    ends = [frame.y(one.points[-1][1]) for one in named]
    places = spread(ends, LINE, frame.top, frame.bottom)
    parts = []
    for one, end, place in zip(named, ends, places, strict=True):
        x = frame.x(one.points[-1][0])
        if abs(place - end) > 2 or x < frame.right - 1:
            parts.append(line(x + 3, end, frame.right + 7, place, "grid"))
        parts.append(label(frame.right + 9, place, cut(one.name), hue(one.colour)))
    return parts


def ranked(
    values: dict[str, float], most: int, key: Callable[[float], float] = abs
) -> dict[str, int | None]:
    """Return a colour for each of the ``most`` names with the largest values, None for the rest.

    Colours go by the order in which names stand, so that a name has the same one everywhere as
    long as it is among the largest.
    """
    if len(values) <= most:
        return {name: index for index, name in enumerate(values)}
    largest = sorted(values, key=lambda name: -key(values[name]))[:most]
    order = [name for name in values if name in largest]
    return {name: order.index(name) if name in order else None for name in values}


def trained(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return a curve of losses without the untrained model's, beside which all else looks flat."""
    kept = points[1:] if len(points) > 3 and points[0][0] == 0 else points
    return tuple(kept)
