"""Shares: stacked bars of categories, side by side, and rows of bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mads.report.page.scale import Scale, domain, nice_ticks, percent, spread
from mads.report.page.svg import (
    LINE,
    LONGEST,
    WIDTH,
    Frame,
    cut,
    element,
    hue,
    label,
    line,
    marked,
    picture,
    text_width,
    widest,
    y_axis,
)

TOP, PLOT = 28.0, 190.0
ROW = 18.0
MOST = 8  # categories with a colour of their own
LEAST = 0.005  # a category whose share is smaller in every bar has no name at the side


@dataclass(frozen=True, slots=True)
class Stack:
    """One bar: category -> share of one."""

    name: str
    shares: Mapping[str, float]


def folded(stacks: Sequence[Stack], most: int = MOST) -> tuple[list[Stack], list[str]]:
    """Return bars with the categories of the largest mean shares alone, and these by their order.

    What is left is added up as the last one, ``5 more``, say.
    """
    names = list(stacks[0].shares) if stacks else []
    if len(names) <= most:
        return list(stacks), names
    mean = {name: sum(stack.shares[name] for stack in stacks) for name in names}
    largest = set(sorted(names, key=lambda name: -mean[name])[:most])
    kept = [name for name in names if name in largest]
    rest_name = f"{len(names) - most} more"
    result = []
    for stack in stacks:
        shares = {name: stack.shares[name] for name in kept}
        rest = max(1 - sum(shares.values()), 0.0) if sum(stack.shares.values()) > 0 else 0.0
        result.append(Stack(stack.name, {**shares, rest_name: rest}))
    return result, [*kept, rest_name]


def stacked(
    name: str,
    title: str,
    text: str,
    stacks: Sequence[Stack],
    *,
    first: bool = True,
    x_title: str = "",
) -> str:
    """Return bars of shares; with ``first`` the first one (the corpus) stands apart."""
    bars, names = folded(stacks)
    right = WIDTH - 14 - widest([cut(n) for n in names])
    left = 38.0
    frame = Frame(Scale(0, 1, left, right), Scale(0, 1, TOP + PLOT, TOP))
    ticks = [(t, percent(t)) for t in (0, 0.25, 0.5, 0.75, 1)]
    parts = y_axis(frame, ticks, "share of tokens")
    apart = 8.0 if first and len(bars) > 1 else 0.0
    step = (right - left - 4 - apart) / len(bars)
    others = bars[1:] if first else bars
    turned = len(bars) <= 12 and any(text_width(cut(bar.name, 10)) > step for bar in others)
    for index, bar in enumerate(bars):
        x = left + 4 + index * step + (apart if index else 0)
        parts += _bar(bar, names, x, max(step - (4 if step > 10 else 0.5), 0.5), frame)
    parts += _below(bars, left + 4, step, apart, frame, turned)
    parts += _names(bars, names, frame)
    height = frame.bottom + (22 if not turned else 52) + (14 if x_title else 0)
    if x_title:
        parts.append(label((left + right) / 2, height - 10, x_title, "mute", "middle"))
    return picture(name, title, text, height, parts)


def _bar(bar: Stack, names: Sequence[str], x: float, width: float, frame: Frame) -> list[str]:
    parts, below = [], 0.0
    for index, category in enumerate(names):
        share = bar.shares[category]
        if share <= 0:
            continue
        top, bottom = frame.y(below + share), frame.y(below)
        colour = hue(index if index < MOST else None)
        shape = element(
            "rect",
            x=x,
            y=top,
            width=width,
            height=max(bottom - top - 0.8, 0.3),
            class_=f"f {colour}",
        )
        parts.append(marked(shape, f"{bar.name}, {category}: {percent(share)}"))
        below += share
    return parts


def _below(
    bars: Sequence[Stack], left: float, step: float, apart: float, frame: Frame, turned: bool
) -> list[str]:
    """Return the bars' names below them; where there is no room for all, of some."""
    parts, free = [], -1e9
    for index, bar in enumerate(bars):
        x = left + (index + 0.5) * step + (apart if index else 0) - 1
        text = cut(bar.name, 10)
        if turned:
            tag = element(
                "g",
                label(0, 0, text, "mute", "end"),
                transform=f"translate({x + 3:.1f} {frame.bottom + 10:.1f}) rotate(-40)",
            )
            parts.append(tag)
        elif x - text_width(text) / 2 > free:
            parts.append(label(x, frame.bottom + 11, text, "mute", "middle"))
            free = x + text_width(text) / 2 + 2
    return parts


def _names(bars: Sequence[Stack], names: Sequence[str], frame: Frame) -> list[str]:
    """Return the categories' names beside the last bar's parts."""
    middles, below, last = {}, 0.0, bars[-1]
    for index, name in enumerate(names):
        if max(bar.shares[name] for bar in bars) >= LEAST:
            middles[index] = frame.y(below + last.shares[name] / 2)
        below += last.shares[name]
    ends = list(middles.values())
    places = spread(ends, LINE, frame.top + 3, frame.bottom - 3)
    parts = []
    for (index, end), place in zip(middles.items(), places, strict=True):
        colour = hue(index if index < MOST else None)
        parts.append(line(frame.right - 1, end, frame.right + 7, place, f"thin {colour}"))
        parts.append(label(frame.right + 9, place, cut(names[index]), colour))
    return parts


@dataclass(frozen=True, slots=True)
class Bar:
    """A row: its share, and another one that is marked by a line."""

    name: str
    share: float
    mark: float


def bar_rows(name: str, title: str, text: str, rows: Sequence[Bar], keys: tuple[str, str]) -> str:
    """Return a row of a bar for each; ``keys`` say what the bar is, and what the mark."""
    longest = LONGEST + 4
    left = widest([cut(row.name, longest) for row in rows]) + 12
    numbers = [f"{percent(row.share)} · {percent(row.mark)}" for row in rows]
    _, high = domain([v for row in rows for v in (row.share, row.mark)], zero=True)
    scale = Scale(0, high, left, WIDTH - 10 - widest(numbers))
    head, key = 26.0, left + 32 + text_width(keys[0])
    bottom = head + ROW * len(rows)
    parts = [
        element("rect", x=left, y=5.0, width=14.0, height=8.0, class_="f h0"),
        label(left + 19, 9, keys[0], "mute"),
        line(key, 4, key, 14, "bar h1"),
        label(key + 6, 9, keys[1], "mute"),
    ]
    parts += [line(scale(t), head, scale(t), bottom, "grid") for t in nice_ticks(0, high, 3)]
    for index, row in enumerate(rows):
        y = head + ROW * (index + 0.5)
        long = max(scale(row.share) - left, 0.5)
        shape = element("rect", x=left, y=y - 5.5, width=long, height=11.0, class_="f h0")
        shape += line(scale(row.mark), y - 8, scale(row.mark), y + 8, "bar h1")
        words = f"{row.name}: {percent(row.share)} {keys[0]}, {percent(row.mark)} {keys[1]}"
        parts += [
            label(left - 6, y, cut(row.name, longest), "", "end"),
            marked(shape, words),
            label(WIDTH - 4, y, numbers[index], "mute", "end"),
        ]
    return picture(name, title, text, bottom + 6, parts)
