"""Our log importance weights against those of the authors' package, document for document.

It needs the package: pip install data-selection.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agents.arrays import planted_texts
from toys import write_jsonl

from mads.agents.fitting import cleaned
from mads.agents.grams import gram_buckets, word_symbols
from mads.agents.target import TargetModel
from mads.fit.target import BUCKETS, fit_ratios
from mads.types import Floats

pytestmark = pytest.mark.filterwarnings("ignore")  # those of other people's packages


# Not compared: words with ½ or ², which the package cuts in two, and texts as they are, which it
# does not clean.


def theirs(folder: Path, texts: list[str], items: list[str]) -> Floats:
    """Return the package's log importance weights of cleaned texts."""
    from data_selection import HashedNgramDSIR

    raw = write_jsonl(folder / "raw.jsonl", [{"text": text} for text in texts])
    target = write_jsonl(folder / "target.jsonl", [{"text": item} for item in items])
    dsir: Any = HashedNgramDSIR([str(raw)], [str(target)], str(folder / "cache"), num_proc=1)
    dsir.fit_importance_estimator(num_tokens_to_fit="all")
    return np.array([dsir.importance_estimator(dsir.featurizer(text)) for text in texts])


def ours(texts: list[str], items: list[str]) -> Floats:
    """Return the totals of ours."""
    log_ratio_TB, _ = fit_ratios({"task": items}, {"task": 1.0}, texts, False, "dsir")
    return TargetModel(log_ratio_TB.astype(np.int64)).log_ratios(texts)[0][:, 0]


@pytest.fixture
def corpus() -> tuple[list[str], list[str]]:
    """500 documents with words in common, punctuation and numbers, and 40 items."""
    pytest.importorskip(
        "data_selection", reason="data_selection is not installed: pip install data-selection"
    )
    rng = np.random.default_rng(3)
    common = [f"w{i}" for i in range(300)]
    texts = []
    for text in planted_texts(135, words=40):
        mixed = rng.permutation([*text.split(), *rng.choice(common, rng.integers(5, 120))])
        texts.append(cleaned(", ".join(mixed) + f". It's {rng.integers(99)}_{rng.integers(9)}!"))
    return texts[:500], texts[500::4]


def test_with_one_hash_the_weights_are_the_packages(
    corpus: tuple[list[str], list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import data_selection.hashed_ngram_dsir as module

    def bucket(gram: str, num_buckets: int) -> int:
        return int(gram_buckets(word_symbols(gram), num_buckets)[-1])  # a word, or the pair

    monkeypatch.setattr(module, "hash_buckets", bucket)
    expected = theirs(tmp_path, *corpus)
    assert expected.std() > 50
    assert np.abs(ours(*corpus) - expected).max() < 1e-3


def test_with_another_hash_they_agree(corpus: tuple[list[str], list[str]], tmp_path: Path) -> None:
    """n-grams collide otherwise in the 10,000 buckets, which is all the difference."""
    assert BUCKETS == 10_000
    assert np.corrcoef(ours(*corpus), theirs(tmp_path, *corpus))[0, 1] > 0.95
