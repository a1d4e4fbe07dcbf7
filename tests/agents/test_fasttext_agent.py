"""The ``fasttext`` back-end and the three shipped models."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mads.agents import fasttext_model
from mads.agents.agent import QuantileBins, bin_numbers
from mads.agents.fasttext_agent import FastTextConfig, expectation, open_fasttext
from mads.agents.fasttext_model import MODELS, clean_text, read_card
from mads.errors import UsageError
from mads.types import Agent, DocumentBatch, Labels, Status

DATA = Path(__file__).parents[3] / "shared" / "data"
TOPICS = (
    *("Activity", "Education", "Entertainment", "Finance", "Health", "Business and Industrial"),
    *("Infrastructure", "Literature and Art", "Nature", "Others", "Law and Government"),
    *("Networking", "Technology"),
)
LESSON = (
    "Photosynthesis is the process by which plants convert sunlight, water and carbon dioxide into "
    "glucose and oxygen. Students learn how chlorophyll absorbs light, why leaves are green, and "
    "how scientists discovered the role of each molecule. In the classroom experiment, measure the "
    "oxygen that a water plant releases at several distances from a lamp and explain the result."
)
SPAM = (
    "CLICK HERE!!! Make money fast, $$$ guaranteed!!! Cheap watches, free shipping, buy now, order "
    "today, limited offer, remove me from this mailing list, casino bonus, viagra, hot singles."
)


def opened(name: str, **keys: Any) -> Agent:
    agent = open_fasttext(name, FastTextConfig("fasttext", **keys))
    assert not isinstance(agent, QuantileBins)
    return agent


def label(agent: Agent, texts: list[str]) -> Labels:
    n = len(texts)
    return agent.label(DocumentBatch(texts, [Status.OK] * n, [len(t) for t in texts], {}))


def names(agent: Agent, texts: list[str]) -> list[str]:
    return [agent.categories[i] for i in label(agent, texts).category_N]


def test_bins_are_unit_wide_closed_at_both_ends_and_clamp() -> None:
    scores = [-0.1, 0.0, 0.999, 1.0, 1.5, 2.0, 3.999, 4.0, 4.5, 5.0, 7.3]
    found = bin_numbers(np.array(scores, np.float32), [1.0, 2.0, 3.0, 4.0])
    assert found.tolist() == [0, 0, 0, 1, 1, 2, 3, 4, 4, 4, 4]
    assert found.dtype == np.uint16


def test_the_expectation_is_the_mean_of_the_bin_centres() -> None:
    prob_NC = np.array([[1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0.5, 0, 0.25, 0.25, 0]])
    # 0.5 · 0.5 + 0.25 · 2.5 + 0.25 · 3.5 = 1.75
    assert expectation(prob_NC).tolist() == [0.5, 4.5, 1.75]


def test_a_classifier_takes_the_most_probable_category(toy: Callable[..., Path]) -> None:
    agent = opened("pets", model=str(toy()))
    labels = label(agent, ["the cat purrs", "a dog barks", ""])
    assert names(agent, ["the cat purrs", "a dog barks", ""]) == ["cat", "dog", "dog"]
    assert (labels.score_N[:2] > 0.5).all()
    assert labels.score_N[2] == 0


def test_an_ordinal_score_is_calibrated_and_its_bin_is_the_category(
    toy: Callable[..., Path],
) -> None:
    flat = {"raw": [0.5, 1.5], "score": [1.25, 1.25]}
    agent = opened("pets", model=str(toy(kind="ordinal", calibration=flat)))
    labels = label(agent, ["the cat purrs", "\n"])
    assert labels.score_N.tolist() == [1.25, 0.0]
    assert labels.category_N.tolist() == [1, 1]  # the card's empty_category is the second


def test_an_ordinal_score_waits_for_its_quantile(toy: Callable[..., Path]) -> None:
    flat = {"raw": [0.5, 1.5], "score": [1.25, 1.25]}
    config = FastTextConfig("fasttext", model=str(toy(kind="ordinal", calibration=flat)))
    binned = open_fasttext("pets", replace(config, quantiles=3))
    assert isinstance(binned, QuantileBins)
    scores = binned.score(DocumentBatch(["the cat purrs", "\n"], [Status.OK] * 2, [1, 1], {}))
    assert scores.score_N.tolist() == [1.25, 0.0]
    assert scores.known_N.tolist() == [True, True]
    assert binned.categories == ("q1", "q2", "q3")
    named = open_fasttext("pets", replace(config, quantiles=3, categories=("a", "b", "c")))
    assert named.categories == ("a", "b", "c")
    plain = open_fasttext("pets", config)
    assert len({binned.fingerprint, named.fingerprint, plain.fingerprint}) == 3


def test_a_probability_is_no_scale_for_quantiles(toy: Callable[..., Path]) -> None:
    with pytest.raises(
        UsageError,
        match=r"agents\.pets\.quantiles: the model 'toy' is a classifier, whose score is no "
        r"scale\. Remove quantiles, or give an ordinal model",
    ):
        open_fasttext("pets", FastTextConfig("fasttext", model=str(toy()), quantiles=3))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"categories": ("a", "b")}, r"agents\.q\.categories: the categories of a fastText model"),
        ({"quantiles": 1}, r"agents\.q\.quantiles: found 1, expected 2 to 100\."),
        (
            {"quantiles": 3, "categories": ("a", "b")},
            r"agents\.q\.categories: found 2, but quantiles makes 3 bins",
        ),
        ({}, r"agents\.q\.model: 'q' is not shipped"),
    ],
)
def test_a_section_that_describes_no_agent_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_fasttext("q", FastTextConfig("fasttext", **keys))


def test_agents_of_the_same_texts_clean_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned: list[str] = []

    def counted(text: str) -> str:
        cleaned.append(text)
        return clean_text(text)

    agents = [opened(name) for name in ("quality", "domain", "topic")]
    texts = [LESSON, SPAM, "", LESSON + SPAM]
    monkeypatch.setattr(fasttext_model, "clean_text", counted)
    together = [label(agent, texts) for agent in agents]
    assert cleaned == texts
    for agent, found in zip(agents, together, strict=True):
        alone = [label(agent, [text]) for text in texts]
        assert found.category_N.tolist() == [one.category_N[0] for one in alone]
        assert found.score_N.tolist() == [one.score_N[0] for one in alone]


def test_a_batch_larger_than_one_prediction_keeps_its_order() -> None:
    agent = opened("domain")
    texts = [f"document number {i} about {'law' if i % 2 else 'code();'}" for i in range(2_100)]
    whole = label(agent, texts)
    halves = [label(agent, texts[:1_500]), label(agent, texts[1_500:])]
    assert whole.category_N.tolist() == [c for half in halves for c in half.category_N]
    assert whole.score_N.tolist() == [s for half in halves for s in half.score_N]


@pytest.mark.parametrize(
    ("name", "categories", "empty"),
    [
        ("quality", ("[0,1)", "[1,2)", "[2,3)", "[3,4)", "[4,5]"), "[0,1)"),
        (
            "domain",
            ("ArXiv", "Book", "Wikipedia", "CommonCrawl", "GitHub", "StackExchange", "C4"),
            "CommonCrawl",
        ),
        ("topic", TOPICS, "Others"),
    ],
)
def test_a_shipped_model_and_its_card_agree(
    name: str, categories: tuple[str, ...], empty: str
) -> None:
    agent = opened(name)
    assert agent.categories == categories
    assert agent.fields == ()
    assert names(agent, ["", "\ud800\n"]) == [empty, empty]
    card = json.loads((MODELS / f"{name}.json").read_text())
    model = (MODELS / f"{name}.ftz").read_bytes()
    assert card["sha256"] == hashlib.sha256(model).hexdigest()
    assert card["size_bytes"] == len(model)
    held_out = card["held_out"]
    counts = np.array(held_out["confusion_matrix"]["counts"])
    assert counts.sum() == held_out["documents"] == sum(d["rows_held_out"] for d in card["data"])
    assert held_out["accuracy"] == pytest.approx(counts.trace() / counts.sum(), abs=1e-4)
    assert held_out["accuracy"] > held_out["majority_baseline_accuracy"] + 0.2
    assert list(held_out["per_category"]) == list(categories)
    assert all(source["licence"] for source in card["data"])


def test_three_models_are_shipped_and_small() -> None:
    files = sorted(MODELS.glob("*.ftz"))
    assert [file.stem for file in files] == ["domain", "quality", "topic"]
    assert sum(file.stat().st_size for file in MODELS.iterdir()) < 5_000_000
    assert len({read_card(file).fingerprint() for file in files}) == 3


def test_quality_ranks_a_lesson_over_gossip_over_spam() -> None:
    agent = opened("quality")
    gossip = "So we went to the mall yesterday and omg the shoes, lol. Then Kate called me again."
    scores = label(agent, [LESSON, gossip, SPAM]).score_N
    assert scores[0] > 2 > scores[1] >= scores[2]
    assert scores[2] < 0.5


def test_domain_knows_code_papers_and_questions() -> None:
    agent = opened("domain")
    texts = [
        'import os\n\ndef main():\n    """Run."""\n    for x in range(3):\n        print(x)\n' * 3,
        r"\begin{lemma} Let $X$ be a scheme and $\mathcal{F}$ a sheaf. \end{lemma} \begin{proof} "
        r"See \cite{foo}, Theorem \ref{thm-bar}. \end{proof}",
        "Q: How do I prove this? I have tried induction but it fails. Any hints?\n\nA: You should "
        "use the identity above. Hope this helps, please accept the answer if it works for you.",
    ]
    assert names(agent, texts) == ["GitHub", "ArXiv", "StackExchange"]


def test_topic_knows_plain_subjects() -> None:
    agent = opened("topic")
    texts = [
        "The patient should ask a doctor about symptoms, medication and the disease treatment.",
        "Investors sold stocks as the bank raised interest rates; the fund's loan portfolio fell.",
        "The court ruled that the police search was illegal; the attorney of the defendant said "
        "the senate should change the law.",
        "Install the software, update Windows and restart the computer to load the new driver.",
    ]
    expected = ["Health", "Finance", "Law and Government", "Technology"]
    assert names(agent, texts) == expected


def test_quality_agrees_with_people_on_real_pages() -> None:
    path = DATA / "labels/edu_quality/dclm_human_agreement.jsonl.gz"
    if not path.is_file():
        pytest.skip("the shared data is absent")
    with gzip.open(path) as file:
        items = [json.loads(line) for line in file]
    agent = opened("quality")
    score_N = label(agent, [item["text"] for item in items]).score_N
    good_N = np.array([item["label"] == 1 for item in items])
    above = score_N[good_N][:, None] > score_N[~good_N][None, :]
    card = json.loads((MODELS / "quality.json").read_text())
    assert above.mean() == pytest.approx(card["held_out"]["auc_dclm_human_agreement"], abs=0.01)
