"""Items as tokens: what the loss counts on, and what is cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mads.config import ReferenceConfig, TaskConfig
from mads.corpus.tokenizer import StoreTokenizer, open_tokenizer, train_tokenizer
from mads.tasks.task import by_objective, make_task


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> StoreTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer") / "t"
    train_tokenizer(["the cat sat on the mat " * 20], 300, folder)
    return open_tokenizer(folder)


def test_the_loss_counts_on_the_continuation_only(
    tmp_path: Path, tokenizer: StoreTokenizer
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"context": "the cat sat", "continuation": " on the mat"}) + "\n")
    (item,) = make_task("t", TaskConfig(path=str(path)), tokenizer, 64, 0).items
    tokens = item.tokens_T.tolist()
    assert tokenizer.tokenizer.decode(tokens[item.num_context :]) == " on the mat"
    assert tokenizer.tokenizer.decode(tokens[: item.num_context]) == "the cat sat"


def test_a_long_item_loses_its_beginning(tmp_path: Path, tokenizer: StoreTokenizer) -> None:
    path = tmp_path / "t.jsonl"
    item = {"context": "x" * 500, "continuation": " mat"}
    path.write_text(json.dumps(item) + "\n" + json.dumps({"context": "", "continuation": "a"}))
    short, long = make_task("t", TaskConfig(path=str(path)), tokenizer, 16, 0).items
    assert len(long.tokens_T) == 16
    assert tokenizer.tokenizer.decode(long.tokens_T[long.num_context :].tolist()) == " mat"
    assert short.tokens_T[0] == tokenizer.end_of_text
    assert short.num_context == 1


@pytest.mark.parametrize(
    ("objective", "names"),
    [("answer", ["t"]), ("text", ["t-text"]), ("both", ["t", "t-text"])],
)
def test_a_reference_task_has_one_task_for_each_loss_that_counts(
    tmp_path: Path, tokenizer: StoreTokenizer, objective: str, names: list[str]
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"context": "the cat sat", "continuation": " on the mat"}) + "\n")
    config = ReferenceConfig(path=str(path), weight=2.0, objective=objective)  # type: ignore[arg-type]
    found = by_objective(make_task("t", config, tokenizer, 64, 0), config.objective)
    assert [task.name for task in found] == names
    whole = make_task("t", config, tokenizer, 64, 0).items[0]
    for task in found:
        (item,) = task.items
        assert task.weight == 2.0
        assert item.tokens_T.tolist() == whole.tokens_T.tolist()
        if task.name.endswith("-text"):
            assert (task.objective, item.num_context) == ("text", 1)
        else:
            assert (task.objective, item.num_context) == ("answer", whole.num_context)


def test_a_text_without_a_question_counts_once(tmp_path: Path, tokenizer: StoreTokenizer) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"text": "the cat sat"}) + "\n")
    config = ReferenceConfig(format="text", path=str(path), objective="both")
    (task,) = by_objective(make_task("t", config, tokenizer, 64, 0), config.objective)
    assert (task.name, task.objective, task.items[0].num_context) == ("t", "text", 1)
    assert tokenizer.tokenizer.decode(task.items[0].tokens_T[1:].tolist()) == "the cat sat"
