"""Feedback made from category rewards: documents whose rewards add up their categories' means."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from mads.config import ConsoleConfig
from mads.console import RULES
from mads.types import NO_CATEGORY, CategoryReward, CategoryRewards, DocumentRewards, Feedback


def section(rule: str) -> ConsoleConfig:
    """Return a rule's section of the recipe, with all defaults."""
    return RULES[rule].section(rule=rule)


def reward(mean: float, stderr: float = 0.05, share: float = 0.3) -> CategoryReward:
    return CategoryReward(mean, stderr, num_docs=20, share=share)


def feedback(rewards: CategoryRewards, copies: int = 20) -> Feedback:
    """Return ``copies`` documents of every combination of the probed categories."""
    names = {agent: tuple(table) for agent, table in rewards.items()}
    rows, values = [], []
    rng = np.random.default_rng(0)
    for combination in itertools.product(*(table or (None,) for table in names.values())):
        labels = dict(zip(names, combination, strict=True))
        mean = sum(rewards[agent][name].mean for agent, name in labels.items() if name)
        row = [names[a].index(name) if name else NO_CATEGORY for a, name in labels.items()]
        rows += [row] * copies
        values += (mean + rng.normal(0, 0.1, copies)).tolist()
    return documents(names, rows, values, rewards)


def documents(
    names: Mapping[str, tuple[str, ...]],
    rows: list[list[int]],
    values: list[float],
    rewards: CategoryRewards,
) -> Feedback:
    table = np.array(rows, np.uint16).reshape(len(rows), len(names))
    reward_N = np.array(values, float)
    found = DocumentRewards(tuple(names), names, table, reward_N, *[np.ones(len(rows))] * 2)
    return Feedback(rewards, found)
