"""The ``target`` back-end."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from agents.arrays import planted_texts, toy_target

from mads.agents import open_agent
from mads.agents.agent import QuantileBins
from mads.agents.array_model import read_arrays, write_arrays, write_card
from mads.agents.grams import gram_buckets, word_symbols
from mads.agents.target import (
    SCALE,
    SHAPES,
    TargetConfig,
    TargetModel,
    TargetScorer,
    TargetTask,
    open_model,
    soft_maximum,
)
from mads.errors import DataError, UsageError
from mads.types import DocumentBatch, Status


def batch(texts: list[str]) -> DocumentBatch:
    return DocumentBatch(texts, [Status.OK] * len(texts), [0] * len(texts), {})


def task(name: str, share: float, mean: float, spread: float) -> TargetTask:
    return TargetTask(name, share, 1, 1, 0.0, mean, spread)


def by_hand() -> TargetModel:
    """Two tasks: `sun` counts 2 and −1 nats, `rain` 0.5 and 3, all else nothing."""
    log_ratio_TB = np.zeros((2, 1000), np.int64)
    sun, rain = gram_buckets(word_symbols("sun rain"), 1000)[:2].tolist()
    log_ratio_TB[:, sun] = 2 * SCALE, -SCALE
    log_ratio_TB[:, rain] = SCALE // 2, 3 * SCALE
    return TargetModel(log_ratio_TB)


def test_log_ratios_by_hand() -> None:
    """Three words have two pairs, whose buckets count nothing."""
    ratio_NT, grams_N = by_hand().log_ratios(["sun rain sun", "sun", "", "x"])
    assert ratio_NT.tolist() == [[4.5, 1.0], [2.0, -1.0], [0, 0], [0, 0]]
    assert grams_N.tolist() == [5, 1, 0, 1]
    mean_NT, _ = by_hand().ratios(["sun rain sun", "", "sun"], per_gram=True)
    assert mean_NT.tolist() == [[0.9, 0.2], [0, 0], [2, -1]]


def test_the_soft_maximum_by_hand() -> None:
    found = soft_maximum(np.array([[1.2, -1.2], [0.2, 0.2], [900.0, -900.0]]), np.array([0.5, 0.5]))
    assert found[0] == pytest.approx(0.25 * math.log((math.exp(4.8) + math.exp(-4.8)) / 2))
    assert found[0] == pytest.approx(1.03, abs=0.01)
    assert found[1] == pytest.approx(0.2)
    assert found[2] == pytest.approx(900 + 0.25 * math.log(0.5))
    one = soft_maximum(np.array([[3.0]]), np.ones(1))
    assert one.tolist() == [3.0]
    unequal = soft_maximum(np.array([[1.0, 0.0]]), np.array([0.75, 0.25]))
    assert unequal[0] == pytest.approx(0.25 * math.log(0.75 * math.exp(4) + 0.25))


def test_a_score_by_hand() -> None:
    """`sun`: z = ((2 − 1) / 2, (−1 + 1) / 4) = (0.5, 0)."""
    tasks = [task("a", 0.5, 1.0, 2.0), task("b", 0.5, -1.0, 4.0)]
    found = TargetScorer(by_hand(), tasks, True, "").score(batch(["Sun", "", "\x00"]))
    assert found.known_N.tolist() == [True, False, False]
    assert found.score_N[0] == pytest.approx(0.25 * math.log((math.e**2 + 1) / 2))
    assert found.score_N[1:].tolist() == [0, 0]


def test_a_score_depends_on_its_own_text_only_to_the_last_bit() -> None:
    _, scorer = open_model(toy_target())
    texts = [*planted_texts(20, words=9, seed=3), "", "unknown things", "atom flour " * 3_000]
    whole = scorer.score(batch(texts))
    for size in (1, 7, 64):
        parts = [scorer.score(batch(texts[i : i + size])) for i in range(0, len(texts), size)]
        assert (np.concatenate([part.score_N for part in parts]) == whole.score_N).all()


def test_bins_have_names() -> None:
    path = str(toy_target())
    plain = open_agent("wanted", TargetConfig("target", path))
    assert isinstance(plain, QuantileBins)
    assert plain.categories == tuple(f"q{i}" for i in range(1, 11))
    named = open_agent("wanted", TargetConfig("target", path, 2, ("unlike", "like")))
    assert named.categories == ("unlike", "like")
    for names in (("a",), ("a", "a")):
        with pytest.raises(UsageError, match=r"agents\.wanted\.categories: found 1 different name"):
            open_agent("wanted", TargetConfig("target", path, 2, names))


def test_the_fingerprint_follows_all_that_changes_a_score() -> None:
    tasks = [task("a", 0.5, 1.0, 2.0), task("b", 0.5, -1.0, 4.0)]
    changed = [
        TargetScorer(by_hand(), tasks, True, ""),
        TargetScorer(by_hand(), tasks, False, ""),
        TargetScorer(by_hand(), tasks, True, "other"),
        TargetScorer(by_hand(), [replace(tasks[0], share=0.25), tasks[1]], True, ""),
        TargetScorer(by_hand(), [replace(tasks[0], mean=0.25), tasks[1]], True, ""),
        TargetScorer(by_hand(), [replace(tasks[0], spread=0.25), tasks[1]], True, ""),
    ]
    assert len({scorer.fingerprint for scorer in changed}) == len(changed)


def test_a_model_of_other_tasks_than_its_card(tmp_path: Path) -> None:
    card, _ = open_model(toy_target())
    arrays = read_arrays(toy_target(), card, SHAPES)
    path = tmp_path / "wanted.safetensors"
    sha256 = write_arrays(path, {"log_ratio_TB": arrays["log_ratio_TB"][:1]})
    write_card(path, replace(card, model_sha256=sha256))
    with pytest.raises(DataError, match="log-ratios of 1 tasks, but its card names 2"):
        open_model(path)


def test_another_score_than_the_golden_one(tmp_path: Path) -> None:
    card, _ = open_model(toy_target())
    path = tmp_path / "wanted.safetensors"
    path.write_bytes(toy_target().read_bytes())
    write_card(path, replace(card, golden=(replace(card.golden[0], score=9.0),)))
    with pytest.raises(DataError, match=r"for the golden text 'atom .* expected 9\.0000"):
        open_model(path)
