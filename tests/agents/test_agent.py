"""Bins around a scorer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mads.agents.agent import FixedBins, QuantileBins, bin_names, bin_numbers, fingerprint
from mads.types import DocumentBatch, Scores, Status


class Lengths:
    """Scores a text by its length; an empty one has no score."""

    fields: tuple[str, ...] = ()
    fingerprint = "lengths"

    def score(self, batch: DocumentBatch) -> Scores:
        length_N = np.array([len(text) for text in batch.texts], np.float32)
        return Scores(length_N, length_N > 0)


def batch(*texts: str) -> DocumentBatch:
    return DocumentBatch(list(texts), [Status.OK] * len(texts), [1] * len(texts), {})


@given(st.lists(st.floats(-10, 10), min_size=1))
def test_a_bin_holds_the_numbers_between_its_edges(values: list[float]) -> None:
    edges = (-2.0, 0.5, 3.0)
    bins = bin_numbers(np.array(values), edges)
    assert bins.tolist() == [sum(value >= edge for edge in edges) for value in values]
    assert bins.dtype == np.uint16


def test_fixed_bins_label_by_their_edges_and_other() -> None:
    agent = FixedBins("a", Lengths(), ("short", "long", "none"), (3.0, 10.0), other=2)
    labels = agent.label(batch("ab", "abc", "", "x" * 10))
    assert labels.category_N.tolist() == [0, 1, 2, 2]
    assert labels.score_N.tolist() == [2, 3, 0, 10]


@pytest.mark.parametrize(("other", "known"), [(None, [True, True]), ("high", [True, False])])
def test_a_missing_score_counts_as_0_or_goes_to_other(other: str | None, known: list[bool]) -> None:
    scores = QuantileBins("a", Lengths(), ("low", "high"), other).score(batch("ab", ""))
    assert scores.known_N.tolist() == known
    assert scores.score_N.tolist() == [2, 0]


def test_a_category_of_its_own_stands_after_the_bins() -> None:
    agent = QuantileBins("a", Lengths(), ("low", "high"), "none")
    assert (agent.categories, agent.num_bins, agent.other) == (("low", "high", "none"), 2, 2)


def test_names_of_bins() -> None:
    assert bin_names((), 3) == ("q1", "q2", "q3")
    assert bin_names(("a", "b"), 2) == ("a", "b")


def test_fingerprints_follow_every_fact() -> None:
    made = [
        FixedBins("a", Lengths(), ("x", "y"), (1.0,), 0).fingerprint,
        FixedBins("a", Lengths(), ("x", "y"), (2.0,), 0).fingerprint,
        FixedBins("a", Lengths(), ("x", "z"), (1.0,), 0).fingerprint,
        FixedBins("a", Lengths(), ("x", "y"), (1.0,), 1).fingerprint,
        QuantileBins("a", Lengths(), ("x", "y")).fingerprint,
        QuantileBins("a", Lengths(), ("x", "y"), "x").fingerprint,
        QuantileBins("a", Lengths(), ("x", "y"), "none").fingerprint,
        fingerprint("a"),
    ]
    assert len(set(made)) == len(made)
    assert QuantileBins("b", Lengths(), ("x", "y")).fingerprint == made[4]
