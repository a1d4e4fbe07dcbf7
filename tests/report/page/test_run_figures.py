"""Single figures of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mads.report.page import run_figures as figures
from mads.report.page.collect import RunData, collect


@pytest.fixture(scope="session")
def data(folder: Path) -> RunData:
    return collect(folder / "run", folder / "store")


def test_intervals_are_196_standard_errors(data: RunData) -> None:
    rewards = data.measured[-1][1].rewards
    assert rewards is not None
    mean, error = rewards["kind"]["noise"][:2]
    last = figures.last_rewards(data)
    assert last is not None
    assert last[0] == 3
    assert last[1]["kind"]["noise"] == (mean, error)
    table = figures.rewards(data)[0].table
    assert table.columns == ("category", "round 1", "round 2", "round 3")
    noise = next(row for row in table.rows if row[0] == "noise")
    assert noise[3] == f"{mean:+.4f} ±{1.96 * error:.4f}".replace("-", "−")


def test_a_long_run_is_thinned(data: RunData) -> None:
    long = replace(data, training=tuple((i, 1.0 + i % 7) for i in range(50_000)))
    figure = figures.training_loss(long)
    assert figure is not None
    assert len(figure.table.rows) == figures.MOST_POINTS
    assert figure.table.rows[-1] == ("49,999", figure.table.rows[-1][1])
    assert 3.9 < float(figure.table.rows[-1][1]) < 4.1
    assert len(figure.svg) < 20_000


def test_mean_loss_is_over_tasks(data: RunData) -> None:
    losses = {"a": ((0, 4.0), (5, 2.0)), "b": ((0, 6.0), (5, 3.0)), "c": ((0, 9.0), (5, 9.0))}
    found = replace(data, losses=losses, held_out=frozenset({"c"}))
    assert figures.mean_loss(found, held_out=False) == (5.0, 2.5)
    assert figures.mean_loss(found, held_out=True) == (9.0, 9.0)
    assert figures.mean_loss(data, held_out=True) is None
    assert figures.task_losses(data, held_out=True) is None


def test_rewards_by_task_are_a_matrix(data: RunData) -> None:
    assert figures.task_rewards(data) == ()  # one task has nothing to compare
    one = data.rounds[-1]
    assert one.record.feedback is not None
    tasks = {"x": {"kind": {"useful": 0.5}}, "y": {"kind": {"useful": -0.25}}}
    feedback = replace(one.record.feedback, task_rewards=tasks)
    last = replace(one, record=replace(one.record, feedback=feedback))
    (figure,) = figures.task_rewards(replace(data, rounds=(*data.rounds[:-1], last)))
    assert figure.table.rows == (("useful", "0.5", "−0.25"),)
