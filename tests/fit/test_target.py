"""`mads fit target` finds what is like the tasks, each as much as the others."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from agents.arrays import VOCABULARIES, planted_texts, toy_scorer
from toys import MakeRecipe, MakeStore, write_jsonl

from mads.agents.target import TargetModel, open_model
from mads.config import Recipe
from mads.errors import DataError, UsageError
from mads.fit.target import (
    BUCKETS,
    PRIOR_GRAMS,
    bin_weights,
    fit_ratios,
    fit_target,
    gram_counts,
    log_ratio,
    smoothed_log_ratio,
)
from mads.store.store import Store

PHYSICS, COOKING, FOOTBALL, CODE = range(4)


def quiet(*_: object) -> None: ...


def drawn(kind: int, number: int, seed: int, words: int = 25) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(VOCABULARIES[kind].split(), words)) for _ in range(number)]


def first(score_N: np.ndarray, number: int) -> set[int]:
    return set(np.argsort(-score_N)[:number].tolist())


def test_documents_like_the_task_come_first() -> None:
    texts = planted_texts(30)
    scorer = toy_scorer({"physics": drawn(PHYSICS, 10, 1)}, texts)
    score_N, known_N = scorer.standardised(texts)
    assert known_N.all()
    assert first(score_N, 30) == set(range(PHYSICS, 120, 4))


@pytest.mark.parametrize("per_gram", [True, False])
def test_two_tasks_count_alike_however_many_items_they_have(per_gram: bool) -> None:
    """500 items of physics and 10 of cooking: documents of both are on top, in turn."""
    texts = planted_texts(30)
    items = {"physics": drawn(PHYSICS, 500, 1), "cooking": drawn(COOKING, 10, 2)}
    score_N, _ = toy_scorer(items, texts, per_gram).standardised(texts)
    assert first(score_N, 60) == {n for n in range(120) if n % 4 in (PHYSICS, COOKING)}
    half = [n % 4 for n in first(score_N, 30)]
    assert min(half.count(PHYSICS), half.count(COOKING)) >= 5
    # One classifier of all items together nearly ignores the task of few.
    together = {"all": items["physics"] + items["cooking"]}
    score_N, _ = toy_scorer(together, texts, per_gram).standardised(texts)
    assert first(score_N, 30) == set(range(PHYSICS, 120, 4))


def test_the_mean_of_scores_would_prefer_what_is_like_no_task() -> None:
    """Mostly common words, where documents of half common words are many, each like one task."""
    rng = np.random.default_rng(4)
    common = VOCABULARIES[FOOTBALL].split()

    def mixed(kind: int, number: int, times: int = 1) -> list[str]:
        words = VOCABULARIES[kind].split() + common * times
        return [" ".join(rng.choice(words, 40)) for _ in range(number)]

    texts = mixed(PHYSICS, 45) + mixed(COOKING, 45) + mixed(CODE, 10, times=4)
    items = {"physics": mixed(PHYSICS, 40), "cooking": mixed(COOKING, 40)}
    log_ratio_TB, tasks = fit_ratios(items, dict.fromkeys(items, 1.0), texts, True, "dsir")
    ratio_NT, _ = TargetModel(log_ratio_TB.astype(np.int64)).ratios(texts, True)
    z_NT = (ratio_NT - [t.mean for t in tasks]) / [t.spread for t in tasks]
    assert len(first(z_NT.mean(axis=1), 10) & set(range(90, 100))) >= 5
    score_N, _ = toy_scorer(items, texts).standardised(texts)
    assert not first(score_N, 80) & set(range(90, 100))


def test_log_ratios_by_hand() -> None:
    count_B, corpus_B = np.array([3, 1, 0]), np.array([0.25, 0.25, 0.5])
    found = log_ratio(count_B, corpus_B)
    assert found.tolist() == pytest.approx([math.log(3), 0.0, math.log(1e-8 / 0.5)], abs=1e-6)
    smooth = smoothed_log_ratio(count_B, corpus_B)
    whole = 4 + PRIOR_GRAMS
    expected = [
        math.log((3 + PRIOR_GRAMS / 4) / whole / 0.25),
        math.log((1 + PRIOR_GRAMS / 4) / whole / 0.25),
        math.log(PRIOR_GRAMS / whole),
    ]
    assert smooth.tolist() == pytest.approx(expected, abs=1e-6)


def test_words_and_pairs_are_counted() -> None:
    assert gram_counts(["a b a", "b", ""]).sum() == 5 + 1
    assert gram_counts(["a", "a a"]).max() == 3
    assert len(gram_counts([])) == BUCKETS


def test_weights_of_bins_by_hand() -> None:
    found = bin_weights(np.array([4.0, 1.0, 3.0, 2.0]), 2, 0.5)
    assert found == {"q1": 1 + 0.5 * 1.5, "q2": 1 + 0.5 * 3.5}
    with pytest.raises(DataError, match="4 documents are too few for 5 bins"):
        bin_weights(np.zeros(4), 5, 0.5)


def test_tasks_that_cannot_be_learned_from() -> None:
    one = {"a": 1.0}
    with pytest.raises(DataError, match="task 'a' has not one word in its items"):
        fit_ratios({"a": ["", ""]}, one, ["sun"], True, "dsir")
    with pytest.raises(DataError, match="the sample of the corpus has not one word"):
        fit_ratios({"a": ["sun"]}, one, ["", ""], True, "dsir")
    with pytest.raises(DataError, match=r"task 'a': all 2 documents .* are equally like it"):
        fit_ratios({"a": ["sun"]}, one, ["rain", "rain"], True, "dsir")


@pytest.fixture
def settings(tmp_path: Path, toy_recipe: MakeRecipe) -> Recipe:
    """Two tasks: physics with half of the weight of cooking."""
    tasks = {}
    for kind, name, weight in ((PHYSICS, "physics", 1.0), (COOKING, "cooking", 2.0)):
        items = [{"context": "", "continuation": text} for text in drawn(kind, 12, kind)]
        path = write_jsonl(tmp_path / f"{name}.jsonl", items)
        tasks[name] = {"path": str(path), "weight": weight}
    return toy_recipe(rewards={"tasks": tasks})


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    documents = [
        {"text": text, "meta": {"domain": "books"}, "quality": 1.0} for text in planted_texts(20)
    ]
    return Store(make_store(documents))


def test_a_target_of_a_store(store: Store, settings: Recipe, tmp_path: Path) -> None:
    outs = [tmp_path / name / "wanted.safetensors" for name in ("a", "b")]
    told: list[tuple[str, int, int]] = []
    for out in outs:
        found = fit_target(
            store, settings, out, "dsir", True, 1000, 4, 0, lambda *one: told.append(one)
        )
    assert (outs[0].read_bytes(), outs[0].with_suffix(".json").read_bytes()) == (
        outs[1].read_bytes(),
        outs[1].with_suffix(".json").read_bytes(),
    )
    assert told[-1] == ("fit log-ratios", 2, 2)
    assert found.documents == 80
    assert [(t.name, t.items) for t in found.tasks] == [("physics", 12), ("cooking", 12)]
    assert [t.share for t in found.tasks] == pytest.approx([1 / 3, 2 / 3])
    weights = list(found.weights["wanted"].values())
    assert weights == sorted(weights)
    assert list(found.weights["wanted"]) == ["q1", "q2", "q3", "q4"]
    card, scorer = open_model(outs[0])
    assert (card.method, card.per_gram, card.documents) == ("dsir", True, 80)
    assert json.loads(outs[0].with_suffix(".json").read_text())["weights"] == found.weights
    score_N, _ = scorer.standardised(planted_texts(20))
    assert first(score_N, 40) == {n for n in range(80) if n % 4 in (PHYSICS, COOKING)}


def test_what_a_target_needs(store: Store, settings: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "wanted.safetensors"
    with pytest.raises(UsageError, match=r"--method: 'dsri' is not known; did you mean 'dsir'\?"):
        fit_target(store, settings, out, "dsri", True, 100, 4, 0, quiet)
    with pytest.raises(UsageError, match=r"add a \[rewards.tasks.NAME\] section with a path"):
        fit_target(store, _without_tasks(settings), out, "dsir", True, 100, 4, 0, quiet)
    with pytest.raises(UsageError, match=r"ends in \.safetensors"):
        fit_target(store, settings, tmp_path / "m.bin", "dsir", True, 100, 4, 0, quiet)
    assert not out.exists()


def _without_tasks(recipe: Recipe) -> Recipe:
    return replace(recipe, rewards=replace(recipe.rewards, tasks={}))
