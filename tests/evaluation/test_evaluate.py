"""Numbers by hand, the whole command on toy tasks, and what it says of missing data."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from command import mads
from evaluation.quiz import tiny_folder, write_data

from mads.errors import DataError, UsageError
from mads.evaluation.choices import EVALUATORS, Item
from mads.evaluation.evaluate import (
    Evaluation,
    Mean,
    Scores,
    evaluate,
    judge,
    over_items,
    over_tasks,
    parse_shots,
    subset,
)
from mads.evaluation.scoring import Score
from mads.evaluation.sources import Source, open_source
from mads.files import read_sealed_json

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("tiny") / "hf")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tasks but two."""
    folder = tmp_path_factory.mktemp("data")
    for task in EVALUATORS:
        if task not in ("piqa", "race"):
            write_data(folder, task, EVALUATORS[task].splits[0], range(6))
    return folder


def run(model: Path, data: Path, batch_size: int = 4, limit: int = 0) -> Evaluation:
    tasks = [task for task in EVALUATORS if task not in ("piqa", "race")]
    return evaluate(model, tasks, data, (0, 2), limit, batch_size, lambda *_: None)


def test_an_item_by_hand() -> None:
    """-3 nats for 2 bytes, -4 nats for 8: the long answer is the better one by its bytes."""
    short, long = Score(-3.0), Score(-4.0, truncated=True)
    item = Item(("q", "q"), ("ab", "abcdéfg"), 1)
    bits, right, by_bytes, cut = judge(item, [short, long])
    assert bits == pytest.approx(4 / math.log(2) / 8)
    assert (right, by_bytes, cut) == (False, True, True)
    alone = Item(("q",), ("ab",), 0)
    assert judge(alone, [Score(-math.log(16), greedy=True)]) == (2.0, True, None, False)
    assert judge(alone, [Score(-math.log(16), greedy=False)])[1] is False


def test_means_by_hand() -> None:
    """Means 2 and 4 of two items: 3 ± (√2 / √2)."""
    one, two = np.array([1.0, 4.0]), np.array([3.0, 4.0])
    found = over_items([one, two])
    assert found.mean == 3.0
    assert found.stderr == pytest.approx(1.0)
    assert over_items([one[:1], two[:1]]) == Mean(2.0, None)


def test_tasks_count_the_same() -> None:
    one = Scores(Mean(1.0, 0.3), Mean(0.5, 0.1), Mean(0.25, 0.1))
    two = Scores(Mean(2.0, 0.4), Mean(0.7, None), None)
    found = over_tasks([one, two])
    assert found.bits_per_byte.mean == 1.5
    assert found.bits_per_byte.stderr == pytest.approx(0.25)
    assert found.accuracy.mean == pytest.approx(0.6)
    assert found.accuracy.stderr is None
    assert found.normalised == Mean(0.25, 0.1)


@pytest.mark.parametrize("text", ["", "a", "-1", "0,0", "0,,3", "1001", "²"])
def test_numbers_of_shots(text: str) -> None:
    assert parse_shots("5,0, 3") == (0, 3, 5)
    with pytest.raises(UsageError, match=r"--shots .*: expected different numbers"):
        parse_shots(text)


def test_a_limit_draws_the_same_items(data: Path) -> None:
    source = open_source("arc_easy", EVALUATORS["arc_easy"], data, 0)
    assert isinstance(source, Source)
    assert subset(source, 0, 0, "arc_easy") == list(range(6))
    three = subset(source, 3, 0, "arc_easy")
    assert three == subset(source, 3, 0, "arc_easy") == sorted(three)
    assert len(set(three)) == 3
    assert len({tuple(subset(source, 3, seed, "arc_easy")) for seed in range(9)}) > 1


def test_all_tasks(model: Path, data: Path) -> None:
    found = run(model, data)
    assert found.missing == {}
    assert (found.context, found.shots) == (128, (0, 2))
    for name, task in found.tasks.items():
        assert [one.shots for one in task.by_shots] == [0, 2]
        assert task.num_items == 6
        assert task.examples == "the other items"
        assert (task.mean.normalised is None) == (name == "lambada")
        two = [one.scores.bits_per_byte.mean for one in task.by_shots]
        assert task.mean.bits_per_byte.mean == pytest.approx(sum(two) / 2)
        assert task.mean.bits_per_byte.mean > 0
    means = [task.mean.accuracy.mean for task in found.tasks.values()]
    assert found.mean.accuracy.mean == pytest.approx(sum(means) / len(means))
    assert found.tasks["mmlu"].by_shots[1].truncated == 6


def test_batches_change_nothing(model: Path, data: Path) -> None:
    one, eight = run(model, data, batch_size=1), run(model, data, batch_size=8)
    for name, task in one.tasks.items():
        other = eight.tasks[name]
        for a, b in zip(task.by_shots, other.by_shots, strict=True):
            assert a.scores.accuracy == b.scores.accuracy
            expected = b.scores.bits_per_byte.mean
            assert a.scores.bits_per_byte.mean == pytest.approx(expected, abs=1e-5)


def test_no_data_at_all(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no task has data:\n  piqa: .* has no file with"):
        evaluate(model, ["piqa"], tmp_path, (0,), 0, 1, lambda *_: None)
    with pytest.raises(UsageError, match=r"--data .* is no folder"):
        evaluate(model, ["piqa"], tmp_path / "gone", (0,), 0, 1, lambda *_: None)


def test_the_command(capsys: Capture, model: Path, data: Path, tmp_path: Path) -> None:
    """A task without data is named; it is an error only where it was asked for."""
    out = tmp_path / "new" / "result.json"
    call = ("evaluate", model, "--data", data, "--shots", "0", "--limit", 2)
    code, words, told = mads(capsys, *call, "--out", out, "--json")
    assert code == 0
    found = json.loads(words)
    assert set(found["missing"]) == {"piqa", "race"}
    assert found["tasks"]["boolq"]["num_items"] == 2
    assert read_sealed_json(out, "") == found
    code, words, told = mads(capsys, *call, "--tasks", "boolq,piqa,lambada")
    assert (code, words) == (1, "")
    plain = " ".join(told.split())
    assert "note: piqa is not evaluated:" in plain
    assert "boolq │ 0 │ 2" in plain
    assert plain.endswith("mads: there is no data for piqa, which --tasks asks for.")
    code, _, told = mads(capsys, *call, "--tasks", "lambada")
    assert code == 0
    assert "all tasks" not in told


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--tasks", "bool"), "--tasks: 'bool' is not known; did you mean 'boolq'?"),
        (("--shots", "x"), "--shots 'x': expected different numbers from 0 to 1000"),
        (("--out", "."), "is a folder. Give the file to write."),
    ],
)
def test_a_bad_call_is_one_message(
    capsys: Capture, model: Path, data: Path, more: tuple[str, ...], message: str
) -> None:
    code, _, told = mads(capsys, "evaluate", model, "--data", data, *more)
    assert code == 2
    assert message in " ".join(told.split())
