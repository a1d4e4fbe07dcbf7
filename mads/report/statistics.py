"""Means over seeds with their intervals: pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds, its standard error and its 95% t interval; one seed has a mean alone."""

    mean: float
    stderr: float | None = None
    low: float | None = None
    high: float | None = None


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of one value for each seed, with its interval: mean ± t · s/√n."""
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(mean)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    stderr = math.sqrt(variance / count)
    half = t_quantile(count - 1) * stderr
    return Estimate(mean, stderr, mean - half, mean + half)


def geometric(values: Sequence[float]) -> Estimate:
    """Return the geometric mean of positive values; its interval is that of their logarithms.

    ``stderr`` is that of the mean logarithm.
    """
    found = estimate([math.log(value) for value in values])
    if found.low is None or found.high is None:
        return Estimate(math.exp(found.mean))
    return Estimate(math.exp(found.mean), found.stderr, math.exp(found.low), math.exp(found.high))


def t_within(t: float, freedom: int) -> float:
    """Return the probability that Student's t lies between -t and t, for t >= 0.

    Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4: a finite sum for whole degrees of
    freedom.
    """
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    if freedom == 1:
        return 2 * angle / math.pi
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term
    for k in range(2 + odd, freedom - 1, 2):  # each term has cos² more, and k-1 over k
        term *= cosine * cosine * (k - 1) / k
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


@lru_cache(maxsize=64)
def t_quantile(freedom: int, level: float = LEVEL) -> float:
    """Return the t for which ``t_within`` is a probability: 95% unless another is given.

    >>> round(t_quantile(2), 3)
    4.303
    """
    low, high = 0.0, 1.0
    while t_within(high, freedom) < level:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_within(middle, freedom) < level else (low, middle)
    return (low + high) / 2


def tokens_to_reach(tokens: Sequence[int], losses: Sequence[float], target: float) -> float | None:
    """Return after how many tokens a curve first reaches a loss; None where it never does.

    Between two points of the curve the loss is taken as linear; beyond its ends nothing is.
    """
    for i, loss in enumerate(losses):
        if loss > target:
            continue
        if i == 0:
            return float(tokens[0])
        part = (losses[i - 1] - target) / (losses[i - 1] - loss)
        return tokens[i - 1] + part * (tokens[i] - tokens[i - 1])
    return None
