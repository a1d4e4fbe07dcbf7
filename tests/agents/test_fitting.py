"""Models that are written with the card without which they are not trusted."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pytest
from agents.conftest import CATS, DOGS

from mads.agents.fasttext_model import FastTextModel
from mads.agents.fitting import GOLDEN_TEXTS, cleaned, predict, write_model
from mads.errors import DataError

CARD = {"kind": "classifier", "categories": ["cat", "dog"], "empty_category": "dog"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    lines = tmp_path_factory.mktemp("fitted") / "lines.txt"
    # Dogs come first and more often, so fastText's own order is 1, 0.
    lines.write_text(f"__label__1 {DOGS}\n" * 60 + f"__label__0 {CATS}\n" * 40)
    return fasttext.train_supervised(str(lines), dim=4, epoch=5, lr=0.5, thread=1, verbose=0)


class Answers:
    """Gives what it was told to, as fastText does."""

    def predict(self, texts: list[str], k: int) -> tuple[list[list[str]], list[list[float]]]:
        assert (texts, k) == (["a", "b"], -1)
        labels = [["__label__2", "__label__0"], ["__label__1", "__label__0"]]
        return labels, [[0.75001, 0.25001], [1.00001, 1e-6]]


def test_what_a_model_reads_is_cleaned_and_cut() -> None:
    assert cleaned("Hello, World!\n") == "hello , world !"
    assert cleaned(" \n\x00") == ""
    assert len(cleaned("x" * 100_000).split()) == 3  # its beginning, middle and end


def test_probabilities_stand_in_the_order_of_the_classes_without_fasttexts_epsilon() -> None:
    found = predict(Answers(), ["a", "b"], 3)
    expected = np.array([[0.25, 0.0, 0.75], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_written_model_is_opened_as_the_agent_does(model: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.bin"
    written = write_model(path, model, {**CARD, "licence": "CC0"}, {"dim": 4})
    assert written.card.categories == ("cat", "dog")
    assert written.card.labels == ("__label__0", "__label__1")
    prob_NC = FastTextModel(path).probabilities([CATS, DOGS])
    assert prob_NC.argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(predict(model, [cleaned(CATS), cleaned(DOGS)], 2), prob_NC)


def test_the_card_tells_the_model_and_what_it_was_given(model: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.bin"
    write_model(path, model, {**CARD, "licence": "CC0"}, {"dim": 4})
    card = json.loads(path.with_suffix(".json").read_text())
    data = path.read_bytes()
    assert (card["name"], card["licence"], card["hyper_parameters"]) == ("mine", "CC0", {"dim": 4})
    assert (card["sha256"], card["size_bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert [item["text"] for item in card["golden"]] == list(GOLDEN_TEXTS)
    for item in card["golden"]:
        assert sum(item["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.bin", "mine.json"]


def test_a_card_that_does_not_fit_is_refused_at_once(model: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty_category is 'cow', which is no category"):
        write_model(tmp_path / "mine.bin", model, {**CARD, "empty_category": "cow"}, {})
    with pytest.raises(DataError, match="'calibration' is missing"):
        write_model(tmp_path / "mine.bin", model, {**CARD, "kind": "ordinal"}, {})
