"""The ``cluster`` back-end."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agents.arrays import VOCABULARIES, planted_texts, toy_clusters

from mads.agents import open_agent
from mads.agents.array_model import read_arrays, write_arrays, write_card
from mads.agents.cluster import (
    SHAPES,
    ClusterAgent,
    ClusterConfig,
    ClusterModel,
    WordEmbedding,
    cosines,
    open_model,
    shortened,
    tf_weights,
)
from mads.agents.fitting import cleaned
from mads.agents.grams import symbol_buckets, word_symbols
from mads.errors import DataError, UsageError
from mads.types import DocumentBatch, Status


def batch(texts: list[str]) -> DocumentBatch:
    return DocumentBatch(texts, [Status.OK] * len(texts), [0] * len(texts), {})


def tables() -> dict[str, Any]:
    """Two dimensions: bucket of `sun` points along the first, that of `rain` along the second."""
    projection_BD = np.zeros((64, 2), np.int16)
    sun, rain = symbol_buckets(word_symbols("sun rain"), 64).tolist()
    assert sun != rain
    projection_BD[sun], projection_BD[rain] = (100, 0), (0, 100)
    return {
        "tf_weight_F": np.array([0, 10, 17], np.int32),
        "idf_B": np.full(64, 3, np.int32),
        "projection_BD": projection_BD,
    }


def test_an_embedding_by_hand() -> None:
    found = WordEmbedding(tables()).embed(["sun", "sun rain sun", "sun sun sun", "", "x"])
    assert found.tolist() == [[3000, 0], [5100, 3000], [5100, 0], [0, 0], [0, 0]]


def test_the_last_weight_has_no_end() -> None:
    table = np.array([0, 10, 17], np.int32)
    assert tf_weights(np.array([1, 2, 3, 99]), table).tolist() == [10, 17, 17, 17]


def test_rows_are_shortened_by_powers_of_two() -> None:
    """8 bits: 1000 / 4, 3 / 4; what is short already stays."""
    values = np.array([[1000.0, -3.0], [255.0, 1.0], [0.0, 0.0]])
    assert shortened(values, 8).tolist() == [[250, -1], [255, 1], [0, 0]]


def test_cosines_by_hand() -> None:
    found = cosines(np.array([[3.0, 4.0]]), np.array([[2.0, 0.0], [0.0, 7.0], [-3.0, -4.0]]))
    assert found.tolist() == [[0.6, 0.8, -1.0]]


def test_the_nearest_centroid_by_hand() -> None:
    centroid_KD = np.array([[0, 5], [5, 5], [5, 0], [9, 0]], np.int16)
    model = ClusterModel(WordEmbedding(tables()), centroid_KD)
    centroid_N, cosine_N = model.nearest(model.embedding.embed(["rain", "sun", "sun rain", "?"]))
    assert centroid_N.tolist() == [0, 2, 1, -1]  # the last two are equally near to `sun`
    assert cosine_N.tolist() == pytest.approx([1, 1, 1, 0])


def test_sums_of_the_longest_texts_are_exact() -> None:
    """All tables at their largest: float64 holds the sums, so their order does not matter."""
    rng = np.random.default_rng(0)
    projection_BD = rng.choice([32_767, 32_766], (1 << 15, 4)).astype(np.int16)
    arrays: dict[str, Any] = {
        "tf_weight_F": np.full(8192, 1281, np.int32),
        "idf_B": np.full(1 << 15, 6000, np.int32),
        "projection_BD": projection_BD,
    }
    text = " ".join(f"w{i}" for i in range(6_100))
    bucket_F = np.unique(symbol_buckets(word_symbols(text), 1 << 15))
    exact = [
        sum(1281 * 6000 * value for value in column)
        for column in projection_BD[bucket_F].T.tolist()
    ]
    assert max(map(abs, exact)) < 2**53
    found = shortened(np.array([[float(value) for value in exact]]), 20)
    assert WordEmbedding(arrays).embed([text]).tolist() == found.tolist()


def test_a_label_depends_on_its_own_text_only_to_the_last_bit() -> None:
    agent = open_agent("toy", ClusterConfig("cluster", str(toy_clusters())))
    assert isinstance(agent, ClusterAgent)
    texts = [*planted_texts(30, words=7, seed=3), "", "\n", "unknown things", "atom " * 5_000]
    texts += [" ".join(VOCABULARIES)] * 2
    whole = agent.label(batch(texts))
    for size in (1, 7, 64):
        parts = [agent.label(batch(texts[i : i + size])) for i in range(0, len(texts), size)]
        assert (np.concatenate([p.category_N for p in parts]) == whole.category_N).all()
        assert (np.concatenate([p.score_N for p in parts]) == whole.score_N).all()


def test_a_text_without_known_words_gets_the_largest_cluster() -> None:
    agent = open_agent("toy", ClusterConfig("cluster", str(toy_clusters())))
    assert isinstance(agent, ClusterAgent)
    found = agent.label(batch(["", "\x00", "zzz"]))
    assert found.category_N.tolist() == [0, 0, 0]
    assert found.score_N.tolist() == [0, 0, 0]


def test_names_may_be_given() -> None:
    path = str(toy_clusters())
    named = open_agent("toy", ClusterConfig("cluster", path, ("a", "b", "c", "d")))
    plain = open_agent("toy", ClusterConfig("cluster", path))
    assert named.categories == ("a", "b", "c", "d")
    assert plain.categories == ("c0001", "c0002", "c0003", "c0004")
    assert named.fingerprint != plain.fingerprint
    for names in (("a", "b"), ("a", "b", "c", "c")):
        with pytest.raises(UsageError, match=r"agents\.toy\.categories: found \d different names"):
            open_agent("toy", ClusterConfig("cluster", path, names))


def test_labelling_needs_numpy_alone() -> None:
    code = (
        "import sys; sys.modules |= dict.fromkeys(('sklearn', 'scipy', 'torch', 'fasttext'))\n"
        "from mads.agents import open_agent\n"
        "from mads.agents.cluster import ClusterConfig\n"
        f"print(open_agent('a', ClusterConfig('cluster', {str(toy_clusters())!r})).categories[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "c0001"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"projection_BD": np.zeros((9, 2), np.int16)}, "idf_B and projection_BD have unequal"),
        ({"tf_weight_F": np.zeros(0, np.int32)}, "or tf_weight_F none"),
    ],
)
def test_tables_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WordEmbedding({**tables(), **change})


def test_centroids_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="unequal dimensions"):
        ClusterModel(WordEmbedding(tables()), np.ones((3, 3), np.int16))
    with pytest.raises(ValueError, match="a centroid of centroid_KD is zero"):
        ClusterModel(WordEmbedding(tables()), np.zeros((3, 2), np.int16))


def test_an_open_model_answers_as_the_agent(tmp_path: Path) -> None:
    card, model = open_model(toy_clusters())
    assert (len(model), len(card.categories), sum(card.sizes)) == (4, 4, card.documents)
    texts = [cleaned(golden.text) for golden in card.golden]
    known = model.nearest(model.embedding.embed(texts))[1] > 0
    assert known.sum() >= 4  # the words of each cluster, if not the shipped texts


def test_a_model_with_clusters_that_its_card_does_not_name(tmp_path: Path) -> None:
    card, _ = open_model(toy_clusters())
    path = tmp_path / "toy.safetensors"
    arrays = dict(read_arrays(toy_clusters(), card, SHAPES))
    sha256 = write_arrays(path, {**arrays, "centroid_KD": arrays["centroid_KD"][:3]})
    write_card(path, replace(card, model_sha256=sha256))
    with pytest.raises(DataError, match=re.escape("has 3 clusters, but its card names 4")):
        open_model(path)
    write_card(path, replace(card, model_sha256=write_arrays(path, arrays), empty_category="none"))
    with pytest.raises(DataError, match="an empty_category that is none of them"):
        open_model(path)
    sha256 = write_arrays(path, {**arrays, "centroid_KD": arrays["centroid_KD"] * 0})
    write_card(path, replace(card, model_sha256=sha256))
    with pytest.raises(DataError, match=r"is no cluster model: a centroid .* is zero"):
        open_model(path)
