"""A mixture that swings or has collapsed is told, with the share; what is calm is not."""

from __future__ import annotations

import numpy as np
import pytest

from mads.run.alarms import alarms, total_variation
from mads.selection.composition import shares
from mads.types import Cells

CELLS = Cells(
    ("domain", "size"),
    {"domain": ("web", "books", "code"), "size": ("short", "long")},
    np.array([[0, 0], [1, 1], [2, 0]], np.uint16),
    np.array([60, 30, 10]),
    np.array([600, 300, 100]),
    np.array([0, 60, 90]),
)


def test_the_total_variation_by_hand() -> None:
    before, after = (shares(CELLS, np.array(read)) for read in ([90, 10, 0], [20, 30, 50]))
    moved = total_variation(before, after)
    # domain: |0.2 − 0.9| + |0.3 − 0.1| + |0.5 − 0| = 1.4; size: |0.7 − 0.9| + |0.3 − 0.1| = 0.4
    assert moved == {"domain": pytest.approx(0.7), "size": pytest.approx(0.2)}
    newer = {**after, "influence": {"r1": 0.9, "r2": 0.1}}
    assert total_variation(before, newer) == moved  # an agent that is new has not swung


def test_a_swing_is_told_with_its_size() -> None:
    before = shares(CELLS, np.array([90, 10, 0]))
    found = alarms(CELLS, np.array([20, 30, 50]), before)
    assert found.counts == {"swing": 1}
    (note,) = found.notes
    assert note.startswith("70% of what is read is of another domain than in the round before")
    assert 'console.rule = "mirror"' in note
    assert alarms(CELLS, np.array([50, 30, 20]), before).counts == {}
    assert alarms(CELLS, np.array([20, 30, 50]), None).counts == {}


def test_a_collapse_is_told_with_both_shares() -> None:
    found = alarms(CELLS, np.array([5, 95, 0]), shares(CELLS, np.array([5, 95, 0])))
    assert found.counts == {"collapse": 2}
    assert "95% of what is read is domain books, which is 30% of the corpus" in found.notes[0]
    assert "selection.max_share.domain bounds it" in found.notes[0]
    # most of the corpus itself is no collapse
    assert alarms(CELLS, np.array([80, 10, 10]), None).counts == {}
    assert alarms(CELLS, np.array([93, 0, 7]), None).counts == {"collapse": 1}
