"""A small comparison: ``natural``, and ``online`` with rewards along two objectives."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import planted
from report.silent import Silent

from mads.config import TaskConfig
from mads.experiments.arms import Arms
from mads.layout import ComparisonDir
from mads.run.loop import train
from mads.store.store import Store

SEEDS = (0, 3)


def make_arms(folder: Path) -> Arms:
    """Return two arms of ten steps in two rounds."""
    items = [{"context": "the", "continuation": " cat"}, {"context": "my", "continuation": " dog"}]
    (folder / "held.jsonl").write_text("\n".join(map(json.dumps, items)))
    base = planted.recipe(folder, steps=10)
    held = TaskConfig(path=str(folder / "held.jsonl"))
    base = replace(base, evaluation=replace(base.evaluation, tasks={"held": held}))
    tasks = {name: replace(task, objective="both") for name, task in base.rewards.tasks.items()}
    return Arms(
        "natural",
        {
            "natural": replace(base, selection=replace(base.selection, policy="random")),
            "online": replace(base, rewards=replace(base.rewards, tasks=tasks)),
        },
    )


def train_all(folder: Path, arms: Arms) -> Path:
    """Train each arm with each seed; return the comparison's folder."""
    out = ComparisonDir(folder / "comparison")
    for arm in arms.recipes:
        for seed in SEEDS:
            run = out.run(arm, seed).root
            train(Store(folder / "store"), run, arms.recipe(arm, seed), Silent())
    return out.root
