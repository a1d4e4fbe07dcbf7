"""Ticks, scales and numbers as texts: pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MINUS = "\u2212"
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` round numbers from ``low`` to ``high``, both ends included.

    >>> nice_ticks(0.3, 4.2)
    [1.0, 2.0, 3.0, 4.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * s for s in _STEPS if power * s >= 0.75 * raw)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(1 - math.floor(math.log10(step)), 0)
    return [round(i * step, digits) + 0.0 for i in range(first, last + 1)]


def ratio_ticks(low: float, high: float) -> list[float]:
    """Return the round ratios from ``low`` to ``high`` for a logarithmic axis.

    >>> ratio_ticks(0.4, 2.2)
    [0.5, 1.0, 2.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    wide = [round(s * 10.0**p, 12) for p in powers for s in (1, 2, 5)]
    found = [tick for tick in wide if low <= tick <= high]
    if len(found) >= 3:
        return found
    return [tick for tick in nice_ticks(low, high, 4) if tick > 0]


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps numbers from ``low`` to ``high`` onto pixels from ``start`` to ``stop``."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a number; what lies outside is drawn at the end."""
        low, high, value = (
            (math.log(v) for v in (self.low, self.high, max(value, 1e-300)))
            if self.log
            else (self.low, self.high, value)
        )
        part = (value - low) / (high - low) if high > low else 0.5
        return self.start + min(max(part, 0.0), 1.0) * (self.stop - self.start)


def domain(
    values: Iterable[float], pad: float = 0.05, *, zero: bool = False
) -> tuple[float, float]:
    """Return a range that holds all finite values, and a part of itself more at both ends.

    With ``zero`` it holds 0 as well, beyond which there is no more when all lie on one side.
    """
    finite = [value for value in values if math.isfinite(value)]
    if zero:
        finite.append(0.0)
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    if low == high:
        half = abs(low) * 0.1 or 1.0
        low, high = (min(low, 0.0) if zero else low - half), high + half
    more = (high - low) * pad
    return (low if zero and low == 0 else low - more), (high if zero and high == 0 else high + more)


def log_domain(values: Iterable[float]) -> tuple[float, float]:
    """Return a range of ratios that holds all positive values, and 1."""
    logs = [math.log(value) for value in values if 0 < value < math.inf]
    low, high = domain([*logs, 0.0], 0.1)
    return math.exp(max(low, -50.0)), math.exp(min(high, 50.0))


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places as near to the given ones as it goes, ``gap`` apart, from ``low`` to ``high``.

    Neighbours that are too near become a group that stands around its mean. When there is no room
    for all, the gap becomes smaller.

    >>> spread([10.0, 12.0], 10, 0, 100)
    [6.0, 16.0]
    """
    count = len(places)
    if count > 1:
        gap = min(gap, (high - low) / (count - 1))
    groups: list[tuple[float, int]] = []  # mean of what its members want as first place, members
    for place in sorted(places):
        start, size = place, 1
        start = min(max(start, low), high)
        while groups and groups[-1][0] + groups[-1][1] * gap > start:
            before, members = groups.pop()
            start = (before * members + (start - members * gap) * size) / (members + size)
            size += members
            start = min(max(start, low), high - (size - 1) * gap)
        groups.append((start, size))
    placed = iter([start + i * gap for start, size in groups for i in range(size)])
    result = [0.0] * count
    for index in sorted(range(count), key=lambda i: places[i]):
        result[index] = next(placed)
    return result


def smoothed(values: Sequence[float], span: float) -> list[float]:
    """Return the running mean with weights that fall by 1 - 1/span a step, corrected for the start.

    Source: Kingma and Ba 2015, the correction of a moving average that starts at 0.
    """
    keep, total, weight, result = 1 - 1 / max(span, 1.0), 0.0, 0.0, []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        result.append(total / weight)
    return result


def chunks(count: int, most: int) -> list[range]:
    """Return at most ``most`` ranges of equal size, but for one, that cut ``range(count)``."""
    parts = min(count, most)
    return [range(i * count // parts, (i + 1) * count // parts) for i in range(parts)]


def number(value: float, digits: int = 3) -> str:
    """Return a number with so many significant digits, for reading: no exponent unless needed.

    >>> number(-0.01234), number(1234567), number(2.0)
    ('\u22120.0123', '1,234,567', '2')
    """
    if not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else f"{MINUS}∞")
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e12 or size < 1e-4:
        mantissa, power = f"{size:.{digits - 1}e}".split("e")
        text = f"{mantissa}e{int(power)}".replace("-", MINUS)
    else:
        decimals = min(max(digits - 1 - math.floor(math.log10(size)), 0), 8)
        text = f"{size:,.{decimals}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"{MINUS}{text}" if value < 0 else text


def signed(value: float, decimals: int = 3) -> str:
    """Return a difference with its sign and so many decimals."""
    return f"{value:+.{decimals}f}".replace("-", MINUS)


def fixed(value: float, decimals: int = 3) -> str:
    """Return a number with so many decimals."""
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def short(value: float) -> str:
    """Return a count for an axis: 1.6M, 20k.

    >>> short(1_638_400), short(20_000), short(500), short(0)
    ('1.64M', '20k', '500', '0')
    """
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return number(value / size) + letter
    return number(value)


def percent(share: float) -> str:
    """Return a share of one as a percentage.

    >>> percent(0.1234), percent(0.004), percent(1.0)
    ('12.3%', '0.4%', '100%')
    """
    return f"{number(round(100 * share, 1))}%" if abs(share) >= 0.0005 else "0%"
