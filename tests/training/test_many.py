"""Three processes find what one finds; their checkpoints are those of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ranks
from training import rank_work

from mads.rewards.estimators import ESTIMATORS
from mads.training.world import ALONE

NAMES = ("own", "tied", "grouped")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("three")
    found = ranks.ended(ranks.start(3, rank_work.__file__, folder))
    assert [one.code for one in found] == [0, 0, 0], found
    return folder, [json.loads((folder / f"{rank}.json").read_text()) for rank in range(3)]


Three = tuple[Path, list[dict[str, Any]]]


def close(found: Any, expected: Any, rel: float = 1e-5) -> bool:
    return bool(np.allclose(np.array(found), np.array(expected), rtol=rel, atol=1e-6))


def test_exchanges(three: Three) -> None:
    for one in three[1]:
        assert one["agreed"] == [6.0, True, 3]
        assert one["broadcast"] == "from 0"


def test_the_first_that_fails_tells_it_and_nobody_goes_on(three: Three) -> None:
    told = [one["refusals"] for one in three[1]]
    assert told == [["unsaid", "wrong on 0"], ["wrong on 1", "unsaid"], ["unsaid", "unsaid"]]


@pytest.mark.parametrize("name", NAMES)
def test_steps_are_those_of_one_process(three: Three, name: str) -> None:
    folder, found = three
    trainer, said = rank_work.alone(folder, name)
    for one in found:
        assert close(one[name]["steps"], said)
    expected = rank_work.weights(trainer)
    assert set(found[0][name]["weights"]) == set(expected)
    for key, values in found[0][name]["weights"].items():
        assert close(values, expected[key], rel=1e-4), key


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_of_three_is_read_by_three_and_by_one(three: Three, name: str) -> None:
    folder, found = three
    assert found[0][name]["same"] == found[0][name]["weights"]  # bit for bit
    config = rank_work.models(folder)[name]
    trainer = rank_work.loaded(folder / f"run-{name}", ALONE, config)
    assert rank_work.weights(trainer) == found[0][name]["weights"]


@pytest.mark.parametrize("estimator", sorted(ESTIMATORS))
def test_rewards_are_those_of_one_process(three: Three, estimator: str) -> None:
    folder, found = three
    expected = rank_work.rewards(rank_work.alone(folder, "own")[0])
    for one in found:
        rewards = one["own"]["rewards"]
        reward, loss = rewards[estimator]
        size = float(np.abs(expected[estimator][0]).max())
        # Differences of nearly equal float32 losses, so the error is that of the losses.
        assert np.abs(np.array(reward) - expected[estimator][0]).max() < 1e-3 * size
        assert close(loss, expected[estimator][1])
        assert reward == found[0]["own"]["rewards"][estimator][0]  # every process, bit for bit


def test_directions_and_losses_are_those_of_one_process(three: Three) -> None:
    folder, found = three
    expected = rank_work.rewards(rank_work.alone(folder, "own")[0])
    for one in found:
        rewards = one["own"]["rewards"]
        assert rewards["same"]  # parameters are put back bit for bit
        assert close(list(rewards["losses"].values()), list(expected["losses"].values()))
        assert close(rewards["task"], expected["task"])
        assert close(rewards["norms"], [1.0, 1.0])
