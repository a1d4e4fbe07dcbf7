"""Items as tokens: what the loss counts on, and what is cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mads.config import TaskConfig
from mads.corpus.tokenizer import StoreTokenizer, open_tokenizer, train_tokenizer
from mads.tasks.task import make_task


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
