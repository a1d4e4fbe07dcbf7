"""`mads fit cluster` finds planted groups exactly, and the same ones again."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from agents.arrays import VOCABULARIES, planted_texts, write_toy_clusters
from toys import MakeStore

from mads.agents.cluster import ClusterConfig, open_cluster
from mads.errors import DataError, UsageError
from mads.fit.cluster import (
    characteristic_words,
    check_numbers,
    class_tf_idf,
    fit_cluster,
    need_sklearn,
    whole,
)
from mads.store.store import Store
from mads.types import DocumentBatch, Status


def quiet(*_: object) -> None: ...


@pytest.mark.parametrize("kinds", [2, 4])
def test_planted_vocabularies_are_found_exactly(kinds: int, tmp_path: Path) -> None:
    from sklearn.metrics import adjusted_rand_score

    out = tmp_path / "m.safetensors"
    texts = planted_texts(40, kinds)
    found = write_toy_clusters(out, texts, kinds)
    assert sorted(found.sizes.values()) == [40] * kinds
    assert found.largest_share == 1 / kinds
    fresh = planted_texts(25, kinds, words=12, seed=9)
    agent = open_cluster("m", ClusterConfig("cluster", str(out)))
    batch = DocumentBatch(fresh, [Status.OK] * len(fresh), [0] * len(fresh), {})
    label_N = agent.label(batch).category_N
    assert adjusted_rand_score(np.tile(np.arange(kinds), 25), label_N) == 1
    for words in found.words.values():  # all of one vocabulary
        assert any(set(words) <= set(vocabulary.split()) for vocabulary in VOCABULARIES)


def test_the_same_sample_gives_the_same_bytes(tmp_path: Path) -> None:
    texts = planted_texts(20)
    for name in ("a", "b"):
        write_toy_clusters(tmp_path / f"{name}.safetensors", texts, 3)
    for suffix in (".safetensors", ".json"):
        first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("a", "b"))
        assert first == second


def test_the_largest_cluster_comes_first(tmp_path: Path) -> None:
    texts = [*planted_texts(10, 2), *planted_texts(30, 1, seed=5)]
    found = write_toy_clusters(tmp_path / "m.safetensors", texts, 2)
    assert list(found.sizes.items()) == [("c0001", 40), ("c0002", 10)]
    assert set(found.words["c0001"]) <= set(VOCABULARIES[0].split())


def test_clusters_of_a_store(make_store: MakeStore, tmp_path: Path) -> None:
    documents = [
        {"text": text, "meta": {"domain": "books"}, "quality": 1.0} for text in planted_texts(20)
    ]
    store = Store(make_store(documents))
    told: list[tuple[str, int, int]] = []
    out = tmp_path / "m.safetensors"
    found = fit_cluster(store, out, 4, 8, 60, 0, lambda *one: told.append(one))
    assert (found.documents, found.dims, len(found.sizes)) == (60, 8, 4)
    assert 0 < found.variance <= 1
    assert 0.5 < found.cosine <= 1
    assert ("read documents", 60, 60) in told
    assert told[-1] == ("fit clusters", 4, 4)
    other = fit_cluster(store, tmp_path / "other.safetensors", 4, 8, 60, 1, quiet)
    assert other.cosine != found.cosine  # another sample


def test_class_tf_idf_by_hand() -> None:
    """Classes of 4 and 2 words, 3 on average; `x` occurs 3 times in all, `y` twice, `z` once."""
    found = class_tf_idf([{"x": 3, "z": 1}, {"y": 2}])
    assert found[0]["x"] == pytest.approx(3 / 4 * math.log(1 + 3 / 3))
    assert found[0]["z"] == pytest.approx(1 / 4 * math.log(1 + 3 / 1))
    assert found[1]["y"] == pytest.approx(2 / 2 * math.log(1 + 3 / 2))
    assert class_tf_idf([{}]) == [{}]


def test_characteristic_words_are_no_marks_nor_numbers() -> None:
    texts = ["ab ab the . 17", "cd the", "zz"]
    assert characteristic_words(texts, np.array([0, 1, -1]), 3) == (
        ("ab", "the"),
        ("cd", "the"),
        (),
    )


def test_whole_numbers_by_hand() -> None:
    assert whole(np.array([[0.5, -2.0], [0.0, 1.0]])).tolist() == [[8192, -32767], [0, 16384]]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((1, 8, 100), "--clusters: found 1, expected 2 to 1024"),
        ((1025, 8, 9_999), "--clusters: found 1025, expected 2 to 1024"),
        ((4, 1, 100), "--dims: found 1, expected 2 to 1024"),
        ((4, 8, 7), "--docs: found 7, expected 8 or more for 4 clusters"),
    ],
)
def test_numbers_that_cannot_be(numbers: tuple[int, int, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_numbers(*numbers)


def test_without_scikit_learn_the_user_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(UsageError, match=r"scikit-learn is not installed.*\"mads\[topics\]\""):
        need_sklearn()


def test_too_few_texts(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    with pytest.raises(DataError, match="3 different documents are too few for 2 clusters, expec"):
        write_toy_clusters(out, ["a b", "c d", "e f", "e f", "", ""], 2)
    same = [" ".join(["one two"] * n) for n in range(1, 9)]  # other lengths, one direction
    with pytest.raises(DataError, match=r"have \d different directions, too few for 4 clusters"):
        write_toy_clusters(out, same, 4)
    assert not out.exists()
