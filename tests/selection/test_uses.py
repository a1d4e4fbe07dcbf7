"""Relabelling in the middle of a history of selections loses not one use of one document."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selection.test_plan import brute_force, doc_sizes
from selection.toy import make_cells, planned_rows

from mads.config import SelectionConfig
from mads.seeds import mix64
from mads.selection.parts import Rows
from mads.selection.plan import Cursors, make_plan
from mads.selection.take import take
from mads.selection.uses import uses_at
from mads.types import Cells
from mads.units import Unit

STEPS = 40
LABELS = 3
UNITS: tuple[Unit, ...] = ("tokens", "docs")
sizes = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=9), min_size=1, max_size=5)


def uses_of(cells: Cells, cursors: Cursors, order: Rows) -> dict[int, int]:
    """Return every document's uses as cells and cursors tell them."""
    uses_N = uses_at(cells, cursors, np.arange(len(order["doc"])))
    return dict(zip(order["doc"].tolist(), uses_N.tolist(), strict=True))


def regrouped(order: Rows, label_of: dict[int, int], uses_of: dict[int, int]) -> tuple[Cells, Rows]:
    """Return the next generation: cells of documents that share label and uses, shuffled anew."""
    tokens = dict(zip(order["doc"].tolist(), order["num_tokens"].tolist(), strict=True))
    groups: dict[tuple[int, int], list[int]] = {}
    for doc in sorted(tokens, key=lambda doc: int(mix64(np.array([doc], np.uint64), 1)[0])):
        groups.setdefault((uses_of[doc], label_of[doc]), []).append(doc)
    keys = sorted(groups)
    made, new = make_cells([[tokens[doc] for doc in groups[key]] for key in keys])
    new["doc"] = np.array([doc for key in keys for doc in groups[key]], np.uint64)
    cells = Cells(
        agents=("label",),
        categories={"label": tuple(f"l{i}" for i in range(LABELS))},
        category_CA=np.array([[label] for _, label in keys], np.uint16),
        num_docs_C=made.num_docs_C,
        num_tokens_C=made.num_tokens_C,
        first_row_C=made.first_row_C,
        uses_C=np.array([uses for uses, _ in keys]),
    )
    return cells, new


def relabelled(data: st.DataObject, order: Rows, uses: dict[int, int]) -> tuple[Cells, Rows]:
    draw = st.integers(0, LABELS - 1)
    labels = {doc: data.draw(draw) for doc in order["doc"].tolist()}
    return regrouped(order, labels, uses)


def test_uses_by_hand() -> None:
    """Prior use 2, one pass, cursor at row 3: rows 0 to 2 were taken 4 times, the others 3."""
    cells, order = make_cells([[5] * 5, [7]])
    docs = order["doc"].tolist()
    cells, _ = regrouped(order, dict.fromkeys(docs, 0), dict.fromkeys(docs, 2))
    assert cells.prior_uses.tolist() == [2]
    cursors = Cursors(*(np.array([n]) for n in (1, 3, 15, 0)))
    assert uses_at(cells, cursors, np.arange(6)).tolist() == [4, 4, 4, 3, 3, 3]


@pytest.mark.parametrize("unit", UNITS)
@settings(max_examples=30, deadline=None)
@given(
    sizes=sizes,
    decay=st.sampled_from([0.0, 0.1]),
    max_passes=st.sampled_from([0, 0, 9]),
    data=st.data(),
)
def test_counts_and_rankings_equal_those_of_a_count_for_each_document(
    unit: Unit, sizes: list[list[int]], decay: float, max_passes: int, data: st.DataObject
) -> None:
    _, order = make_cells(sizes)
    uses = dict.fromkeys(order["doc"].tolist(), 0)
    cells, order = relabelled(data, order, uses)
    total = sum(doc_sizes(order, unit))
    config = SelectionConfig(policy="top", decay=decay, max_passes=max_passes)
    cursors = Cursors.start(len(cells))
    score_J = np.zeros(LABELS)
    for step in range(STEPS):
        if step and data.draw(st.integers(0, 4)) == 0:
            found = uses_of(cells, cursors, order)
            assert found == uses
            cells, order = relabelled(data, order, found)
            cursors = Cursors.start(len(cells))
        if step % 3 == 0:  # few values, so that cells tie
            score_J = np.array([data.draw(st.sampled_from([-1.0, 0.0, 0.5, 1.0])) for _ in "abc"])
        score_C = score_J[cells.category_CA[:, 0]]
        budget = data.draw(st.integers(1, total + 10))
        plan = make_plan(cells, score_C, cursors, budget, config, step, unit)
        selection = take(cells, plan, planned_rows(cells, order, plan), config.decay)
        before = [uses[doc] for doc in order["doc"].tolist()]
        counts = doc_sizes(order, unit)
        expected = brute_force(order, counts, before, score_C.tolist(), budget, config, seed=step)
        assert sorted(selection.doc_N.tolist()) == sorted(order["doc"][expected].tolist())
        told = dict(zip(selection.doc_N.tolist(), selection.uses_N.tolist(), strict=True))
        assert told == {doc: uses[doc] for doc in told}
        for doc in told:
            uses[doc] += 1
        cursors = selection.cursors
        assert uses_of(cells, cursors, order) == uses


@settings(max_examples=40, deadline=None)
@given(sizes=sizes, part=st.sampled_from([3, 7, 100]), data=st.data())
def test_a_document_that_was_begun_counts_as_not_yet_used(
    sizes: list[list[int]], part: int, data: st.DataObject
) -> None:
    """A use is counted with a document's last part; what was read of others is begun anew."""
    _, order = make_cells(sizes)
    length = dict(zip(order["doc"].tolist(), order["num_tokens"].tolist(), strict=True))
    uses = dict.fromkeys(length, 0)
    cells, order = relabelled(data, order, uses)
    config = SelectionConfig(policy="sample")
    cursors, inside = Cursors.start(len(cells)), dict.fromkeys(length, 0)
    for step in range(20):
        score_C = np.array([data.draw(st.floats(-2, 2)) for _ in range(len(cells))])
        budget = data.draw(st.integers(1, sum(length.values())))
        plan = make_plan(cells, score_C, cursors, budget, config, step, part_tokens=part)
        selection = take(cells, plan, planned_rows(cells, order, plan), config.decay)
        for doc, first, num, told in zip(
            *(selection.doc_N.tolist(), selection.first_token_N.tolist()),
            *(selection.num_tokens_N.tolist(), selection.uses_N.tolist()),
            strict=True,
        ):
            assert (first, told) == (inside[doc], uses[doc])
            inside[doc] = (first + num) % length[doc]
            uses[doc] += inside[doc] == 0
        cursors = selection.cursors
        assert uses_of(cells, cursors, order) == uses
        if data.draw(st.integers(0, 3)) == 0:
            cells, order = relabelled(data, order, uses_of(cells, cursors, order))
            cursors, inside = Cursors.start(len(cells)), dict.fromkeys(length, 0)
