"""Documents in parts: every token once a pass, quotas within a part, categories as planned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selection.toy import make_cells, planned_rows, write_order

from mads.config import SelectionConfig
from mads.errors import DataError
from mads.selection.parts import Rows, in_parts
from mads.selection.plan import Cursors, Plan, make_plan
from mads.selection.policies import POLICIES
from mads.selection.query import OrderReader
from mads.selection.rounding import balance, settle
from mads.selection.take import Selection, take
from mads.types import Cells, Floats

Token = tuple[int, int]
"""A document and a place in it."""


class SlowCell:
    """A cell as the list of its parts, taken one after the other and from the start again."""

    def __init__(self, docs: list[int], sizes: list[int], part: int) -> None:
        self.parts = [
            [(doc, place) for place in range(first, min(first + part, size))]
            for doc, size in zip(docs, sizes, strict=True)
            for first in range(0, size, part)
        ]
        self.taken = 0

    def take(self, quota: float, found: int) -> list[Token]:
        """Take the parts that a quota holds, and the one in which it ends if it was found so."""
        tokens: list[Token] = []
        most = sum(map(len, self.parts))
        while len(tokens) < min(quota - 1e-6, most):
            part = self.parts[self.taken % len(self.parts)]
            if len(tokens) + len(part) > quota + 1e-6 and found == len(tokens):
                break
            tokens += part
            self.taken += 1
        return tokens


def tokens_of(selection: Selection, cell: int) -> list[Token]:
    """Return a cell's tokens in the order in which they are selected."""
    mine = selection.cell_N == cell
    columns = selection.doc_N, selection.first_token_N, selection.num_tokens_N
    rows = zip(*(column[mine].tolist() for column in columns), strict=True)
    return [(doc, first + i) for doc, first, num in rows for i in range(num)]


sizes = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=8), min_size=1, max_size=5)


@settings(max_examples=60)
@given(
    sizes=sizes,
    part=st.integers(1, 45),
    policy=st.sampled_from(sorted(POLICIES)),
    data=st.data(),
)
def test_each_cell_is_read_in_its_order_without_gap_or_repetition(
    sizes: list[list[int]], part: int, policy: str, data: st.DataObject
) -> None:
    cells, order = make_cells(sizes)
    total, config = int(cells.num_tokens_C.sum()), SelectionConfig(policy=policy)
    docs = [order["doc"][order["cell"] == cell].tolist() for cell in range(len(cells))]
    slow = [SlowCell(own, size, part) for own, size in zip(docs, sizes, strict=True)]
    streams: list[list[Token]] = [[] for _ in sizes]
    cursors = Cursors.start(len(cells))
    for step in range(12):
        score_C = np.array([data.draw(st.sampled_from([-1.0, 0.0, 0.5])) for _ in sizes])
        budget = data.draw(st.integers(1, total + 10))
        plan = make_plan(cells, score_C, cursors, budget, config, step, part_tokens=part)
        selection = take(cells, plan, planned_rows(cells, order, plan), config.decay)
        assert min(budget, total) <= selection.num_tokens < min(budget, total) + part
        for cell, one in enumerate(slow):
            found = tokens_of(selection, cell)
            assert found == one.take(float(plan.quota_C[cell]), len(found))
            assert abs(len(found) - plan.quota_C[cell]) < part
            streams[cell] += found
        cursors = selection.cursors
        assert_cursors(cells, order, cursors, [len(stream) for stream in streams])
        assert_uses(selection, sizes, streams)
    for stream, own, size in zip(streams, docs, sizes, strict=True):
        once = [(doc, i) for doc, num in zip(own, size, strict=True) for i in range(num)]
        assert stream == [once[i % len(once)] for i in range(len(stream))]


def assert_cursors(cells: Cells, order: Rows, cursors: Cursors, read: list[int]) -> None:
    """Check the cursors against the number of tokens read of each cell."""
    for cell, tokens in enumerate(read):
        passes, place = divmod(tokens, int(cells.num_tokens_C[cell]))
        ends = np.cumsum(order["num_tokens"][order["cell"] == cell])
        row = int(np.searchsorted(ends, place, side="right"))
        inside = place - (int(ends[row - 1]) if row else 0)
        found = cursors.passes_C, cursors.row_C, cursors.tokens_C, cursors.inside_C
        assert [int(values[cell]) for values in found] == [passes, row, place, inside]
        assert int(cursors.whole().tokens_C[cell]) == place - inside


def assert_uses(selection: Selection, sizes: list[list[int]], streams: list[list[Token]]) -> None:
    """Check that ranges and uses say which tokens of which pass were taken."""
    for part in selection.ranges:
        stream, once = streams[part.cell], sum(sizes[part.cell])
        stop = part.uses * once + part.stop_tokens
        assert part.uses * once + part.start_tokens < stop <= len(stream)
        ends = np.cumsum([0, *sizes[part.cell]])
        assert ends[part.start_row] <= part.start_tokens < ends[part.start_row + 1]
        assert ends[part.stop_row - 1] < part.stop_tokens <= ends[part.stop_row]
    taken = sum(part.num_tokens for part in selection.ranges)
    assert taken == selection.num_tokens


@settings(max_examples=60)
@given(sizes=sizes, budget=st.integers(1, 300), data=st.data())
def test_documents_of_one_part_are_whole_documents(
    sizes: list[list[int]], budget: int, data: st.DataObject
) -> None:
    """The rows of a plan are the same; only what rounding takes of them differs."""
    cells, order = make_cells(sizes)
    score_C = np.array([data.draw(st.floats(-1, 1)) for _ in sizes])
    start = Cursors.start(len(cells))
    plan = make_plan(cells, score_C, start, budget, SelectionConfig(), 0)
    large = make_plan(cells, score_C, start, budget, SelectionConfig(), 0, part_tokens=40)
    one, two = (planned_rows(cells, order, p) for p in (plan, large))
    assert {name: v.tolist() for name, v in one.items()} == {n: v.tolist() for n, v in two.items()}


def test_parts_by_hand() -> None:
    cells, order = make_cells([[10, 3]])
    cursors = Cursors(np.array([2]), np.array([0]), np.array([4]), np.array([4]))
    plan = make_plan(cells, np.ones(1), cursors, 13, SelectionConfig(), 0, part_tokens=4)
    found = planned_rows(cells, order, plan)
    assert found["first_token"].tolist() == [4, 8, 0, 0]
    assert found["num_tokens"].tolist() == [4, 2, 3, 4]
    assert found["tokens_before"].tolist() == [4, 8, 10, 0]
    assert found["inside"].tolist() == [8, 0, 0, 4]
    assert found["row"].tolist() == [0, 0, 1, 0]
    assert found["uses"].tolist() == [2, 2, 2, 3]


@pytest.mark.parametrize("part", [1, 7, 64])
@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_duckdb_and_reading_ahead_change_nothing(tmp_path: Path, policy: str, part: int) -> None:
    sizes = np.random.default_rng(2).integers(1, 90, (6, 20)).tolist()
    cells, order = make_cells(sizes)
    path = tmp_path / "order.parquet"
    write_order(path, order)
    config, cursors = SelectionConfig(policy=policy, threads=1), Cursors.start(6)
    with OrderReader(path, cells, config) as reader:
        for step in range(60):
            score_C = np.array([1.0, 0.9, 0.8, -0.5, -1.0, step // 30])
            budget = (40, 300, 2000)[step % 3]
            plan = make_plan(cells, score_C, cursors, budget, config, step, part_tokens=part)
            expected = take(cells, plan, planned_rows(cells, order, plan), config.decay)
            selection = reader.select(plan, selections=60 - step)
            for name in ("doc_N", "first_token_N", "num_tokens_N", "uses_N"):
                assert getattr(selection, name).tolist() == getattr(expected, name).tolist()
            assert selection.ranges == expected.ranges
            cursors = selection.cursors
    assert cursors.passes_C.max() >= 1


def test_a_cursor_beyond_its_document_is_refused(tmp_path: Path) -> None:
    cells, order = make_cells([[10, 3, 8]])
    path, config = tmp_path / "order.parquet", SelectionConfig(threads=1)
    write_order(path, order)
    for tokens, inside in ((9, 8), (13, 13), (14, 4), (3, 2)):
        cursors = Cursors(np.array([0]), np.array([0]), np.array([tokens]), np.array([inside]))
        plan = make_plan(cells, np.ones(1), cursors, 5, config, 0, part_tokens=4)
        with pytest.raises(DataError, match="does not list all documents of cell 0"):
            OrderReader(path, cells, config).select(plan)


LONG, SHORT, BUDGET, PART = 8000, 400, 164_000, 1024


@pytest.fixture(scope="module")
def mixed() -> tuple[Cells, Rows]:
    """Three agents; the second one's first category, 12% of the tokens, has long documents."""
    rng = np.random.default_rng(0)
    sizes, categories = [], []
    for quality in range(5):
        for domain in range(7):
            for topic in range(13):
                tokens = int(rng.gamma(1.0, 30_000)) + LONG
                mean, share = (LONG, 0.82) if domain == 0 else (SHORT * 2 ** (domain % 3), 1.0)
                count = max(1, int(tokens * share / mean))
                sizes.append(np.maximum(1, rng.normal(mean, mean / 5, count)).astype(int).tolist())
                categories.append((quality, domain, topic))
    cells, order = make_cells(sizes)
    names = {"quality": 5, "domain": 7, "topic": 13}
    return replace(
        cells,
        agents=tuple(names),
        categories={agent: tuple(map(str, range(num))) for agent, num in names.items()},
        category_CA=np.array(categories, np.uint16),
    ), order


def first_rows(cells: Cells, order: Rows, plan: Plan) -> Rows:
    """Return the rows of a plan from the start, as ``planned_rows`` does but at once."""
    amount_C = np.ceil(plan.quota_C).astype(np.int64)
    listed = order["tokens_before"] < amount_C[order["cell"]]
    rows = {name: values[listed] for name, values in order.items()}
    return in_parts(cells, plan, amount_C, {**rows, "uses": np.zeros(listed.sum(), np.int64)})


def errors(cells: Cells, plan: Plan, selection: Selection) -> list[Floats]:
    """Return by how much each category's share is off the plan's, for every agent."""
    tokens_C = np.bincount(selection.cell_N, selection.num_tokens_N, len(cells))
    off_C = tokens_C / tokens_C.sum() - plan.quota_C / plan.quota_C.sum()
    return [np.bincount(column, off_C).astype(np.float64) for column in cells.category_CA.T]


@pytest.mark.parametrize("policy", ["random", "sample"])
def test_a_round_has_the_composition_of_its_plan(mixed: tuple[Cells, Rows], policy: str) -> None:
    """Within 2 points in every category of every agent, where whole documents are far off."""
    cells, order = mixed
    config, start = SelectionConfig(policy=policy), Cursors.start(len(cells))
    score_C = np.random.default_rng(1).normal(0, 0.3, len(cells))
    worst: list[float] = []
    whole: list[float] = []
    for seed in range(50):
        for part, found in ((PART, worst), (0, whole)):
            plan = make_plan(cells, score_C, start, BUDGET, config, seed, part_tokens=part)
            selection = take(cells, plan, first_rows(cells, order, plan), config.decay)
            off = errors(cells, plan, selection)
            found.append(max(float(np.abs(values).max()) for values in off))
            if part:  # a theorem: a category of the first agent is off by less than one part
                tokens_C = np.bincount(selection.cell_N, selection.num_tokens_N, len(cells))
                first = np.bincount(cells.category_CA[:, 0], tokens_C - plan.quota_C)
                assert np.abs(first).max() < PART
                assert np.abs(tokens_C - plan.quota_C).max() < PART
                assert BUDGET <= selection.num_tokens < BUDGET + PART
    assert max(worst) < 0.02
    assert np.median(whole) > 0.1


def test_long_documents_are_not_taken_more_often_than_planned(mixed: tuple[Cells, Rows]) -> None:
    """Also where a cell's quota is a small part of a part: on average over many steps."""
    cells, order = mixed
    config, start = SelectionConfig(policy="random"), Cursors.start(len(cells))
    total: list[Floats] = []
    for seed in range(400):
        plan = make_plan(cells, np.ones(len(cells)), start, 8192, config, seed, part_tokens=PART)
        selection = take(cells, plan, first_rows(cells, order, plan), config.decay)
        total.append(errors(cells, plan, selection)[1])
    mean, spread = np.mean(total, axis=0), np.std(total, axis=0) / np.sqrt(len(total))
    # The last cell that waits gets its whole part, half of one on average, which is 6 points.
    assert np.all(np.abs(mean) < 4 * spread + 0.01)


@settings(max_examples=100)
@given(data=st.data(), num=st.integers(1, 40), agents=st.integers(1, 3))
def test_moving_tokens_keeps_the_sums_of_categories(
    data: st.DataObject, num: int, agents: int
) -> None:
    """And settles all cells but as many as there are categories."""
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    size_K = rng.integers(1, 50, num).astype(np.float64)
    has_K = size_K * rng.choice([0, 1, 0.25, rng.random()], num)
    category_KA = rng.integers(0, 4, (num, agents)) + 4 * np.arange(agents)
    before_K, open_K = has_K.copy(), (has_K > 0) & (has_K < size_K)
    balance(has_K, size_K, category_KA, rng.random(num))
    assert np.all((has_K >= -1e-6) & (has_K <= size_K + 1e-6))
    assert np.array_equal(has_K[~open_K], before_K[~open_K])
    for column in category_KA.T:
        sums = [np.bincount(column, values, 4 * agents) for values in (before_K, has_K)]
        assert sums[0] == pytest.approx(sums[1], abs=1e-5)
    assert ((has_K > 1e-6) & (has_K < size_K - 1e-6)).sum() <= 4 * agents - (agents - 1)
    settle(has_K, size_K, rng.random(num))
    assert np.all((has_K < 1e-6) | (has_K > size_K - 1e-6))
    assert -1e-5 < has_K.sum() - before_K.sum() < 50


@pytest.mark.parametrize("turn", ["balance", "settle"])
def test_each_cell_keeps_its_tokens_on_average(turn: str) -> None:
    rng = np.random.default_rng(0)
    size_K = np.array([8.0, 1.0, 3.0, 8.0, 2.0, 5.0])
    begun_K = np.array([1.0, 0.5, 2.5, 4.0, 0.25, 4.0])
    category_KA = np.array([[0, 2], [0, 3], [1, 2], [1, 3], [0, 2], [1, 3]])
    found = []
    for _ in range(4000):
        has_K = begun_K.copy()
        if turn == "balance":
            balance(has_K, size_K, category_KA, rng.random(6))
        else:
            settle(has_K, size_K, rng.random(6))
        found.append(has_K)
    mean_K, error_K = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(len(found))
    if turn == "settle":  # the last one that waits gets all, else the sum would be too small
        assert mean_K.sum() >= begun_K.sum()
        mean_K, error_K, begun_K = mean_K[:3], error_K[:3], begun_K[:3]
    assert np.all(np.abs(mean_K - begun_K) < 4.5 * error_K + 0.1)
