"""A run as others read it: finished, going on, or damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import planted
import pytest
from run.watching import Quiet

from mads.errors import DataError, Interrupted, UsageError
from mads.files import write_sealed_json
from mads.run.loop import train
from mads.run.reader import Run
from mads.run.records import RoundRecord
from mads.store.store import Store
from mads.strategies.console import Console


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A run that a test may damage."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_all_of_a_finished_run(finished: Path, folder: Path, store: Store) -> None:
    run = Run(finished)
    assert run.recipe == planted.recipe(folder, steps=20)
    assert run.provenance.store == store.fingerprint
    assert run.provenance.generation == store.generation
    assert [one.number for one in run.rounds] == [0, 1, 2, 3]
    assert [record.step for record in run.steps] == list(range(20))
    begun = [record for record in run.records if isinstance(record, RoundRecord)]
    assert [record.step for record in begun] == [0, 5, 10, 15]
    assert run.checkpoints == [10, 20]
    assert list(run.losses) == [0, 5, 10, 15, 20]
    assert run.losses[5] == begun[1].losses
    last = run.last_round()
    assert run.result is not None
    assert run.losses[20] == run.result.losses
    assert last.strategy.weights == run.result.weights == begun[-1].weights
    plan = last.plan(store)
    assert plan.num_docs == last.selection().num_rows == begun[-1].num_docs
    assert run.rounds[0].rewards() is None


def test_the_latest_rewards_are_the_finite_ones_of_measured_rounds(finished: Path) -> None:
    run = Run(finished)
    assert [one.number for one in run.latest_rewards(2)] == [2, 3]
    found = run.latest_rewards(99)
    assert [one.number for one in found] == [1, 2, 3]
    table = run.rounds[1].rewards(["doc", "reward"])
    assert table is not None
    assert found[0].doc_N.tolist() == table["doc"].to_pylist()
    assert np.isfinite(found[0].reward_N).all()


def test_a_run_that_is_still_going_on(folder: Path, store: Store, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(store, tmp_path / "run", planted.recipe(folder, steps=20), Quiet(stop_after=3))
    with (tmp_path / "run" / "metrics.jsonl").open("a") as handle:
        handle.write('{"kind": "step", "st')
    run = Run(tmp_path / "run")
    assert run.result is None
    assert len(run.steps) == 3
    assert run.checkpoints == [3]
    assert isinstance(run.last_round().strategy, Console)
    with pytest.raises(UsageError, match="has no rewards yet: no round has been measured"):
        run.latest_rewards(3)


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere does not exist\. `mads train` makes one"):
        Run(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"is not a run: it has no provenance\.json\. Give the fo"):
        Run(tmp_path)


def test_a_run_without_a_round(copy: Path) -> None:
    shutil.rmtree(copy / "rounds")
    with pytest.raises(DataError, match="holds no complete round"):
        Run(copy).last_round()


@pytest.mark.parametrize("name", ["selection.parquet", "rewards.parquet"])
def test_a_flipped_byte_of_a_table_is_refused(copy: Path, name: str) -> None:
    path = copy / "rounds" / "0003" / name
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    one = Run(copy).last_round()
    with pytest.raises(DataError, match=rf"{name} is not the file that was written"):
        one.selection() if name.startswith("selection") else one.rewards()


def test_a_table_of_another_round_is_refused(copy: Path) -> None:
    rounds = copy / "rounds"
    shutil.copy(rounds / "0002" / "rewards.parquet", rounds / "0003" / "rewards.parquet")
    with pytest.raises(DataError, match=r"rewards\.parquet is not the file that was written"):
        Run(copy).last_round().rewards()


def test_a_plan_of_another_round_is_refused(copy: Path, store: Store) -> None:
    rounds = copy / "rounds"
    shutil.copy(rounds / "0002" / "plan.json", rounds / "0003" / "plan.json")
    with pytest.raises(DataError, match=r"of another round: found 2, expected 3\. Put the name"):
        Run(copy).last_round().plan(store)


def test_a_state_of_another_round_or_strategy_is_refused(copy: Path) -> None:
    rounds = copy / "rounds"
    shutil.copy(rounds / "0002" / "console.json", rounds / "0003" / "console.json")
    message = "of another round: found console in round 2, expected console in round 3"
    with pytest.raises(DataError, match=message):
        _ = Run(copy).last_round().strategy
    write_sealed_json(rounds / "0003" / "console.json", {"strategy": "random", "round": 3})
    with pytest.raises(DataError, match="found random in round 3, expected console in round 3"):
        _ = Run(copy).last_round().strategy


def test_a_round_that_is_gone_from_the_middle_is_named(copy: Path) -> None:
    shutil.rmtree(copy / "rounds" / "0002")
    with pytest.raises(DataError, match=r"rounds/0002 is missing: found rounds 0 to 3 without 2"):
        _ = Run(copy).rounds
