"""The sample of documents that a model is fitted to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mads.agents.fitting import cleaned
from mads.fit.sample import sample_rows, sampled_texts
from mads.store.store import Store


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 9))
def test_rows_are_different_and_as_many_as_asked(total: int, count: int, seed: int) -> None:
    rows = sample_rows(total, count, seed)
    assert len(rows) == min(total, count)
    assert (np.diff(rows) > 0).all()
    assert rows[0] >= 0
    assert rows[-1] < total


def test_every_row_is_as_likely() -> None:
    drawn = np.bincount(np.concatenate([sample_rows(10, 4, s) for s in range(4000)]), minlength=10)
    assert abs(drawn - 1600).max() < 160  # five standard deviations of 31


def test_texts_are_those_of_the_documents(
    toy_store: Path, toy_documents: list[dict[str, str]]
) -> None:
    told: list[tuple[str, int, int]] = []
    every = sampled_texts(Store(toy_store), 1000, 0, lambda *one: told.append(one))
    assert sorted(every) == sorted(cleaned(document["text"]) for document in toy_documents)
    assert told[-1] == ("read documents", 300, 300)
    some = sampled_texts(Store(toy_store), 50, 1, lambda *_: None)
    assert len(some) == 50
    assert some == sampled_texts(Store(toy_store), 50, 1, lambda *_: None)
    assert some != sampled_texts(Store(toy_store), 50, 2, lambda *_: None)
