"""The selections of a round: what one after the other from the cursors would select."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import planted
import pytest

from mads.config import Recipe
from mads.console import initial_state
from mads.console.scores import cell_scores
from mads.console.state import console_to_json
from mads.errors import DataError
from mads.layout import RoundDir
from mads.seeds import derive
from mads.selection.bounds import exact_budget, with_shares
from mads.selection.composition import shares
from mads.selection.plan import Cursors, make_plan
from mads.selection.plan_file import Head, read_plan, read_selection, write_selection
from mads.selection.query import OrderReader
from mads.selection.rounds import part_tokens, select_round, stretches
from mads.store.store import Store
from mads.types import ConsoleState, Floats
from mads.units import Budget


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(planted.build(tmp_path_factory.mktemp("planted")))


@pytest.fixture
def state(store: Store) -> ConsoleState:
    """Useful documents count four times as much."""
    state = initial_state(store.cells.categories)
    weights = {agent: dict(table) for agent, table in state.weights.items()}
    weights["kind"]["useful"] = 4.0
    return replace(state, weights=weights)


def begin(store: Store, state: ConsoleState) -> tuple[Floats, Cursors]:
    """Return a state's scores, and the cursors before any selection."""
    return cell_scores(store.cells, state), Cursors.start(len(store.cells))


def make_recipe(tmp_path: Path, select_every: int, part: int = 0, **selection: object) -> Recipe:
    recipe = planted.recipe(tmp_path, first_update=200, steps=200, part_tokens=part)
    changed = replace(recipe.selection, select_every=select_every, **selection)  # type: ignore[arg-type]
    return replace(recipe, selection=changed)


WHOLE = 2**40  # tokens of a part: no document is as long


def test_stretches_by_hand() -> None:
    assert stretches(10, 15, 2) == [(10, 12), (12, 14), (14, 15)]
    assert stretches(10, 15, 0) == stretches(10, 15, 5) == stretches(10, 15, 99) == [(10, 15)]


@pytest.mark.parametrize("part", [0, 7, WHOLE])
@pytest.mark.parametrize("policy", ["top", "sample", "random"])
def test_each_selection_starts_where_the_one_before_ended(
    store: Store, state: ConsoleState, tmp_path: Path, policy: str, part: int
) -> None:
    """Equal to selecting step by step, each time with a new connection, over several passes."""
    recipe = make_recipe(tmp_path, select_every=1, part=part, policy=policy)
    cells, config, budget = store.cells, recipe.selection, recipe.training.batch_tokens
    size = part_tokens(recipe.training)
    chosen = select_round(store, *begin(store, state), recipe, 3, (20, 110))
    assert [c.step for c in chosen] == list(range(20, 110))
    cursors = Cursors.start(len(cells))
    for number, found in enumerate(chosen):
        seed = derive(recipe.seed, "selection", 3, number)
        score_C = cell_scores(cells, state)
        plan = make_plan(cells, score_C, cursors, budget, config, seed, part_tokens=size)
        with OrderReader(store.order.path, cells, config) as order:
            expected = order.select(plan)
        for name in ("doc_N", "first_token_N", "num_tokens_N"):
            found_N = getattr(found.selection, name)
            assert found_N.tolist() == getattr(expected, name).tolist()
        assert found.selection.ranges == expected.ranges
        cursors = expected.cursors
    for name in ("passes_C", "row_C", "tokens_C", "inside_C"):
        found_C = getattr(chosen[-1].selection.cursors, name)
        assert found_C.tolist() == getattr(cursors, name).tolist()
    assert cursors.passes_C.max() >= 1
    if part:  # the best cells' documents may be shorter than the default
        assert any(c.selection.cursors.inside_C.any() for c in chosen) == (part != WHOLE)


def test_decay_acts_within_a_round(store: Store, state: ConsoleState, tmp_path: Path) -> None:
    """Without decay the best cell is read again and again; once a round, nothing is read twice."""
    uses = {}
    for select_every, decay in ((0, 0.0), (1, 0.0), (1, 10.0)):
        recipe = make_recipe(tmp_path, select_every, policy="top", decay=decay)
        chosen = select_round(
            store,
            cell_scores(store.cells, state),
            Cursors.start(len(store.cells)),
            recipe,
            0,
            (0, 25),
        )
        uses[select_every, decay] = max(int(c.selection.uses_N.max()) for c in chosen)
    assert uses[0, 0.0] == 0
    assert uses[1, 0.0] > uses[1, 10.0]


@pytest.mark.parametrize("part", [0, 7, WHOLE])
def test_the_files_of_a_round_hold_all_its_selections(
    store: Store, state: ConsoleState, tmp_path: Path, part: int
) -> None:
    """The plan's ranges are joined: as many as for one selection, and each row in one of them."""
    recipe = make_recipe(tmp_path, select_every=1, part=part)
    chosen = select_round(store, *begin(store, state), recipe, 0, (0, 80))
    folder = RoundDir(tmp_path / "round")
    write_selection(folder, store, console_to_json(state), chosen, Head(1, "sample", Budget(1000)))
    plan = read_plan(folder.plan, store)
    assert plan.cursors.row.tolist() == chosen[-1].selection.cursors.row_C.tolist()
    table = read_selection(folder, plan)
    assert table["step"].to_pylist() == sorted(table["step"].to_pylist())
    assert set(table["step"].to_pylist()) == set(range(80))
    assert len(plan.ranges) == len({(p.cell, p.uses) for p in plan.ranges})
    assert plan.num_docs == sum(p.num_docs for p in plan.ranges) <= table.num_rows
    assert (plan.num_docs == table.num_rows) == (part == WHOLE)
    tokens = Counter[tuple[int, int]]()
    for row in table.select(["doc", "first_token", "num_tokens"]).to_pylist():
        tokens.update((row["doc"], row["first_token"] + i) for i in range(row["num_tokens"]))
    expected = Counter[tuple[int, int]]()
    for one in plan.ranges:
        first = int(store.cells.first_row_C[one.cell])
        rows = np.arange(first + one.start_row, first + one.stop_row)
        found = store.order.rows(rows, ["doc", "num_tokens", "tokens_before"])
        for doc, num, before in zip(*(values.tolist() for values in found.values()), strict=True):
            start = max(one.start_tokens - before, 0)
            expected.update((doc, i) for i in range(start, min(num, one.stop_tokens - before)))
    assert tokens == expected


def test_a_stretch_larger_than_the_corpus_goes_through_it_again(
    store: Store, state: ConsoleState, tmp_path: Path
) -> None:
    recipe = make_recipe(tmp_path, select_every=60)
    chosen = select_round(store, *begin(store, state), recipe, 0, (0, 100))
    steps = [c.step for c in chosen]
    assert steps.count(0) >= 2
    for first, stop in ((0, 60), (60, 100)):
        found = sum(c.selection.num_tokens for c in chosen if c.step == first)
        assert found >= (stop - first) * recipe.training.batch_tokens


def test_a_corpus_that_is_used_up(store: Store, state: ConsoleState, tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path, select_every=1, max_passes=1)
    with pytest.raises(DataError, match=r"round 2: the corpus is used up; .* selection.max_passes"):
        select_round(
            store,
            cell_scores(store.cells, state),
            Cursors.start(len(store.cells)),
            recipe,
            2,
            (0, 200),
        )


@pytest.mark.parametrize("policy", ["sample", "random"])
def test_fixed_shares_hold_also_where_they_ask_for_several_passes(
    store: Store, tmp_path: Path, policy: str
) -> None:
    """Four fifths of a round of 100,000 tokens from one of three kinds: more than there is."""
    wanted = {"useful": 0.8, "neutral": 0.2, "noise": 0.0}
    recipe = make_recipe(tmp_path, select_every=0, policy=policy)
    held = with_shares(recipe.selection, {"kind": wanted})
    assert exact_budget(store.cells, held) < 60_000
    start = np.ones(len(store.cells)), Cursors.start(len(store.cells))
    chosen = select_round(store, *start, replace(recipe, selection=held), 0, (0, 200))
    tokens_C = np.zeros(len(store.cells))
    for one in chosen:
        np.add.at(tokens_C, one.selection.cell_N, one.selection.num_tokens_N)
    found = shares(store.cells, tokens_C)["kind"]
    # Parts of up to 128 tokens are rounded by chance.
    assert found == pytest.approx(wanted, abs=0.01)
    assert found["noise"] == 0
