"""The adapter around fastText."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mads.agents.fasttext_model import (
    MODELS,
    FastTextModel,
    clean_text,
    find_model,
    read_card,
    spread_windows,
)
from mads.errors import DataError, UsageError

Toy = Callable[..., Path]
HARD_TEXTS = [
    "",
    " \n\t ",
    "\n",
    "\x00",
    "\ud800\udfff",
    "\x1f\x7f\x85\u2028",
    "a\x00b\nc\ud800d",
    "__label__c __label__d </s>",
    "word " * 500_000,
    "x" * 1_000_000,
    "🦄 naïve 中文 \u202e \u0301",
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello , world !"),
        ("two\nlines\tand\r\nmore\x00end", "two lines and more end"),
        ("a\ud800b\x7fc\u2028d\u00a0e", "a b c d e"),
        ("x_1 += 2", "x _ 1 + = 2"),
        ("__label__spam </s>", "_ _ label _ _ spam < / s >"),
        ("ÉCOLE 12th 中文", "école 12th 中文"),
        (" \n\x00\ud800 ", ""),
        ("", ""),
    ],
)
def test_cleaning(text: str, expected: str) -> None:
    assert clean_text(text) == expected


@given(st.text(st.characters(), max_size=300))
def test_cleaned_text_is_one_line_of_utf8_and_stays_as_it_is(text: str) -> None:
    cleaned = clean_text(text + "\ud8ab")
    cleaned.encode()
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", cleaned)
    assert cleaned.split() == cleaned.split(" ") or not cleaned
    assert "__label__" not in cleaned
    assert "</s>" not in cleaned


def test_short_texts_are_read_whole() -> None:
    text = "word " * 1_200
    assert spread_windows(text) == text


def test_long_texts_give_their_beginning_middle_and_end() -> None:
    text = "".join(f"w{i:06d} " for i in range(10_000))
    words = spread_windows(text).split()
    numbers = [int(word[1:]) for word in words]
    assert set(words) <= set(text.split())  # no word is cut where white space is near
    assert numbers[0] == 0
    assert numbers[-1] == 9_999
    assert any(4_800 < number < 5_200 for number in numbers)
    assert numbers == sorted(set(numbers))


@given(st.integers(6_001, 9_000))
def test_windows_bound_the_cost(length: int) -> None:
    piece = spread_windows("ab c" * (length // 4))
    assert len(piece) <= 3 * 2_000 + 2 * 40 + 2
    assert len(spread_windows("x" * length)) == 6_002


def test_probabilities_stand_in_the_cards_order(toy: Toy) -> None:
    model = FastTextModel(toy())
    assert fasttext.load_model(str(model.path)).get_labels() == ["__label__d", "__label__c"]
    prob_NC = model.probabilities(["The cat purrs and drinks milk", "a dog barks"])
    assert prob_NC.argmax(axis=1).tolist() == [0, 1]


def test_probabilities_sum_to_one_or_nothing_was_readable() -> None:
    model = FastTextModel(find_model("topic", "topic"))
    prob_NC = model.probabilities(HARD_TEXTS)
    assert prob_NC.shape == (len(HARD_TEXTS), 13)
    assert np.isfinite(prob_NC).all()
    assert prob_NC.min() >= 0
    empty = [not clean_text(text) for text in HARD_TEXTS]
    np.testing.assert_allclose(prob_NC.sum(axis=1), np.where(empty, 0.0, 1.0), atol=1e-9)


def test_a_row_depends_on_its_own_text_only() -> None:
    model = FastTextModel(find_model("domain", "domain"))
    texts = [*HARD_TEXTS, "The cat purrs.", "We prove the lemma by induction."]
    together = model.probabilities(texts)
    for i, text in enumerate(texts):
        assert (model.probabilities([text])[0] == together[i]).all()
    assert (model.probabilities(texts[::-1])[::-1] == together).all()


def test_a_very_long_text_costs_no_more_than_a_long_one() -> None:
    model = FastTextModel(find_model("quality", "quality"))
    start = time.perf_counter()
    model.probabilities(["word and " * 2_000_000])
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_model_is_refused_within_a_second(tmp_path: Path, keep: float) -> None:
    whole = (MODELS / "quality.ftz").read_bytes()
    model = tmp_path / "quality.ftz"
    model.write_bytes(whole[: int(keep * len(whole)) if 0 < keep < 1 else int(keep)])
    model.with_suffix(".json").write_bytes((MODELS / "quality.json").read_bytes())
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"found sha256 [0-9a-f]{64}, expected [0-9a-f]{64}"):
        FastTextModel(model)
    assert time.perf_counter() - start < 1


def test_a_file_that_is_no_model_is_refused(toy: Toy) -> None:
    digest = "a8a2f6ebe286697c527eb35a58b5539532e9b3ae3b64d4eb0a46fb657b41562c"
    model = toy(sha256=digest)
    model.write_bytes(b"This is a test.")
    with pytest.raises(DataError, match=r"toy\.bin is no fastText model: "):
        FastTextModel(model)


def test_other_predictions_than_the_golden_ones_are_refused(toy: Toy) -> None:
    golden = [{"text": "the cat", "probabilities": [0.25, 0.75]}]
    with pytest.raises(DataError, match=r"golden text 'the cat' found .*expected \[0.25, 0.75\]"):
        FastTextModel(toy(golden=golden))


def test_labels_that_the_model_does_not_have_are_refused(toy: Toy) -> None:
    message = "has the labels __label__c, __label__d, but its card lists __label__c, __label__x"
    with pytest.raises(DataError, match=message):
        FastTextModel(toy(labels=["__label__c", "__label__x"]))


RISING = {"raw": [0.5, 1.5], "score": [0.0, 2.0]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": None}, "'kind' is missing"),
        ({"sha256": None}, "'sha256' is missing"),
        ({"golden": None}, "'golden' is missing"),
        ({"golden": [{"text": "a"}]}, "'probabilities' is missing"),
        ({"golden": []}, "golden holds no prediction with one probability for each category"),
        ({"golden": [{"text": "a", "probabilities": [1.0]}]}, "golden holds no prediction"),
        ({"golden": [{"text": "a", "probabilities": ["x", 1]}]}, "could not convert"),
        ({"golden": [{"text": "a", "probabilities": [float("nan"), 1]}]}, "NaN or infinite"),
        ({"golden": [{"text": "a", "probabilities": [10**400, 1]}]}, "a number is too large"),
        ({"golden": [{"text": 5, "probabilities": [0, 1]}]}, "a golden text is 5, expected a text"),
        ({"golden": ["the cat"]}, "golden is no list of objects with 'text' and 'probabilities'"),
        (
            {"kind": "ordinal", "calibration": RISING | {"raw": [0, 10**400]}},
            "a number is too large",
        ),
        ({"kind": "regressor"}, "kind is 'regressor', expected 'classifier' or 'ordinal'"),
        ({"categories": "cat"}, "categories is no list of texts"),
        ({"categories": ["cat", 1]}, "categories is no list of texts"),
        ({"categories": ["cat", "cat"]}, "categories needs at least two different entries"),
        ({"labels": ["__label__c"]}, "labels needs at least two different entries"),
        ({"categories": ["a", "b", "dog"]}, "2 labels for 3 categories"),
        ({"empty_category": "cow"}, "empty_category is 'cow', which is no category"),
        ({"text_version": 99}, "text_version 99, but this version of mads cleans texts by version"),
        ({"text_version": None}, "text_version None"),
        ({"kind": "ordinal"}, "'calibration' is missing"),
        ({"kind": "ordinal", "calibration": {"raw": [0, 1]}}, "'score' is missing"),
        (
            {"kind": "ordinal", "calibration": RISING | {"raw": [0.5]}},
            "calibration needs as many raw values as scores, at least 2",
        ),
        (
            {"kind": "ordinal", "calibration": RISING | {"raw": [1.5, 1.5]}},
            "calibration does not rise from each point to the next",
        ),
        (
            {"kind": "ordinal", "calibration": RISING | {"score": [2.0, 1.0]}},
            "calibration does not rise from each point to the next",
        ),
    ],
)
def test_a_card_that_is_wrong_is_refused(toy: Toy, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        FastTextModel(toy(**changes))
    assert "toy.json" in str(caught.value)


def test_a_model_without_a_card_is_refused(toy: Toy) -> None:
    model = toy()
    model.with_suffix(".json").unlink()
    with pytest.raises(DataError, match=r"toy\.bin has no card\. Write .*toy\.json"):
        read_card(model)


def test_a_damaged_card_is_refused(toy: Toy) -> None:
    model = toy()
    model.with_suffix(".json").write_text('{"kind": ')
    with pytest.raises(DataError, match="cannot be read as JSON"):
        read_card(model)
    model.with_suffix(".json").write_text("[]")
    with pytest.raises(DataError, match="is no card: found list, expected an object"):
        read_card(model)


def test_models_are_found_by_name_and_by_path(toy: Toy) -> None:
    assert find_model("a", "topic") == MODELS / "topic.ftz"
    assert find_model("a", str(toy())) == toy()
    with pytest.raises(UsageError, match=r"agents\.a\.model: 'qualty' .* mean 'quality'\?"):
        find_model("a", "qualty")
    with pytest.raises(UsageError, match="is not shipped; known: domain, quality, topic"):
        find_model("a", "zzz")
    for missing in ("mine.ftz", "models/mine"):
        with pytest.raises(UsageError, match=f"agents.a.model: '{missing}' does not exist"):
            find_model("a", missing)


def test_the_fingerprint_follows_all_that_changes_a_label(toy: Toy) -> None:
    ordinal = {"kind": "ordinal", "calibration": RISING}
    variants: list[dict[str, Any]] = [
        {},
        {"categories": ["cats", "dog"]},
        {"categories": ["dog", "cat"]},
        {"empty_category": "cat"},
        {"sha256": "0" * 64},
        ordinal,
        ordinal | {"calibration": RISING | {"score": [0.0, 1.0]}},
    ]
    prints = [read_card(toy(**changes)).fingerprint() for changes in variants]
    assert len(set(prints)) == len(variants)
    assert read_card(toy(date="another day")).fingerprint() == prints[0]


def test_cards_are_plain_json_without_nan() -> None:
    for path in MODELS.glob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)
