"""What evidence is measured, and that it does not hang on the run's seed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import planted
import pytest
from run.watching import Quiet

from mads.config import EvaluationConfig, TaskConfig
from mads.rewards.competence import LIMIT
from mads.rewards.measure import spread_from
from mads.run.feedback import gather
from mads.run.loop import train
from mads.store.store import Store
from mads.strategies.console import Console
from mads.tasks.task import Task, make_task
from mads.training.build import build_model
from mads.training.task_loss import batched
from mads.training.trainer import Trainer


def test_one_round_is_measured_and_the_strategy_moves_on(folder: Path, store: Store) -> None:
    """Nothing that was handed in is changed."""
    recipe = planted.recipe(folder)
    lm = build_model(recipe.model, recipe.training, store.tokenizer.vocab_size, 0)
    trainer = Trainer(lm, recipe.training, 0)
    (name, config), *_ = recipe.rewards.tasks.items()
    task = batched(make_task(name, config, store.tokenizer, 32, 0), 8)
    strategy = Console.start(store.cells, recipe)
    before = strategy.to_json()
    found = gather(store, lm, trainer.optimizer_state(5), [task], recipe, strategy)
    assert (found.strategy.round, strategy.round) == (1, 0)
    assert strategy.to_json() == before
    assert found.strategy.weights != strategy.weights
    assert found.record.probes == found.table.num_rows > 0
    assert found.record.rewards is not None
    assert found.record.rewards.keys() == set(store.cells.agents)
    assert found.task_losses.keys() == {"planted"}
    assert found.record.oracle_error is not None
    budget = replace(recipe, rewards=replace(recipe.rewards, probe_tokens=1500))
    again = gather(
        store,
        lm,
        trainer.optimizer_state(5),
        [task],
        budget,
        strategy,
        spread_from(store.cells, found.table),
    )
    assert 0 < again.record.probe_tokens < 1700
    assert not math.isclose(again.record.probe_tokens, found.record.probe_tokens)


def test_a_model_that_does_not_repeat_itself_is_not_listened_to(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    """Rewards dealt out at random move nothing, rewards that were measured do."""
    recipe = planted.recipe(folder, steps=40)
    told = Quiet()
    dealt = replace(recipe, rewards=replace(recipe.rewards, placebo=True))
    result = train(store, tmp_path / "dealt", dealt, told)
    rounds = told.rounds
    refused = [r for r in rounds if r.feedback and r.feedback.refused]
    assert len(refused) >= 3
    assert [r.round for r in refused] == [1 + n for n in range(len(refused))]  # the first ones
    assert result.guards["unsure"] == len(refused)
    one = refused[0].feedback
    assert one is not None
    assert one.agreement is not None
    assert one.agreement < LIMIT
    assert one.rewards  # what was measured is kept all the same
    assert "two halves of the probed documents agree at" in one.refused
    assert any("the strategy stays as it was" in note for note in told.notes)
    assert all(r.weights == rounds[0].weights for r in refused)
    listened = train(store, tmp_path / "measured", recipe, Quiet())
    assert "unsure" not in listened.guards
    off = replace(dealt, rewards=replace(dealt.rewards, competence=False))
    assert "unsure" not in train(store, tmp_path / "off", off, Quiet()).guards


def test_a_console_of_some_agents_probes_their_categories_only(folder: Path, store: Store) -> None:
    recipe = planted.recipe(folder)
    recipe = replace(recipe, console=replace(recipe.console, agents=("coin",)))
    lm = build_model(recipe.model, recipe.training, store.tokenizer.vocab_size, 0)
    trainer = Trainer(lm, recipe.training, 0)
    (name, config), *_ = recipe.rewards.tasks.items()
    task = batched(make_task(name, config, store.tokenizer, 32, 0), 8)
    found = gather(
        store, lm, trainer.optimizer_state(5), [task], recipe, Console.start(store.cells, recipe)
    )
    assert found.strategy.weights.keys() == found.strategy.theta.keys() == {"coin"}
    assert found.record.rewards is not None
    assert found.record.rewards.keys() == {"coin"}
    assert 8 <= found.record.probes <= 20  # 8 of each of two categories, rounded by cell
    # Each probe keeps its labels of all agents, for who reads the rewards later.
    assert {"coin", "kind", "quality"} <= set(found.table.column_names)


def test_the_items_of_tasks_do_not_depend_on_the_runs_seed(
    folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else arms with other seeds would be judged by other items."""
    drawn: list[list[int]] = []

    def noted(*arguments: Any) -> Task:
        found = make_task(*arguments)
        drawn.append([len(item.tokens_T) for item in found.items])
        return found

    monkeypatch.setattr("mads.run.watched.make_task", noted)
    items = tmp_path / "items.jsonl"
    lines = [{"context": "word " * n, "continuation": " end"} for n in range(2, 30)]
    items.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for seed, evaluation_seed in ((0, 0), (1, 0), (1, 1)):
        recipe = planted.recipe(folder, steps=1)
        tasks = {"held-out": TaskConfig(path=str(items), num_examples=8)}
        evaluation = EvaluationConfig(seed=evaluation_seed, tasks=tasks)
        recipe = replace(recipe, seed=seed, evaluation=evaluation)
        train(store, tmp_path / f"{seed}-{evaluation_seed}", recipe, Quiet())
    first, second, other = drawn[1::2]
    assert first == second != other
