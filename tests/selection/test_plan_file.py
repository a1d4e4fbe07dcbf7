"""Reading plan.json: what is not one, or does not fit its store, is refused with its place."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import planted
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mads.config import SelectionConfig
from mads.errors import DataError
from mads.files import json_sha256, read_json, read_sealed_json, write_sealed_json
from mads.layout import RoundDir
from mads.sealed import write_sealed
from mads.selection.plan import Cursors, make_plan
from mads.selection.plan_file import (
    Chosen,
    Head,
    SavedRequest,
    load_plan,
    read_plan,
    read_rewards,
    read_selection,
    write_selection,
)
from mads.selection.query import OrderReader
from mads.selection.take import FIRST_TOKEN, SELECTION_SCHEMA, STEP
from mads.store.store import Store
from mads.units import Budget

REQUEST = SavedRequest("s", 1, "f", "900 tokens", "top", "x", 7, "", texts=False, megatron=True)
Value = dict[str, Any]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(planted.build(tmp_path_factory.mktemp("planted")))


@pytest.fixture
def folder(store: Store, tmp_path: Path) -> RoundDir:
    """A selection that goes through some cells for the second time."""
    cells, config = store.cells, SelectionConfig(policy="top", threads=1)
    cursors, chosen = Cursors.start(len(cells)), []
    found = RoundDir(tmp_path / "round")
    with OrderReader(store.order.path, cells, config) as order:
        for step in range(5):
            plan = make_plan(cells, np.arange(len(cells)) / 3, cursors, 900, config, step)
            chosen.append(Chosen(order.select(plan), step))
            cursors = chosen[-1].selection.cursors
    write_sealed(found.rewards, rewards_table(), compression="zstd")
    head = Head(7, "top", Budget(4500), REQUEST)
    write_selection(found, store, {"round": 3}, chosen, head)
    return found


def rewards_table() -> pa.Table:
    return pa.table({"doc": [1, 2], "reward": [0.5, -0.5]})


def change(path: Path, edit: Callable[[Value], object]) -> None:
    """Edit a sealed JSON file and seal it anew."""
    value = read_sealed_json(path, "")
    edit(value)
    write_sealed_json(path, value)


def test_a_plan_survives_its_file(store: Store, folder: RoundDir) -> None:
    plan = read_plan(folder.plan, store)
    assert (plan.store, plan.generation) == (store.fingerprint, store.generation)
    assert (plan.seed, plan.policy, plan.budget) == (7, "top", Budget(4500, "tokens"))
    assert plan.request == REQUEST
    assert plan.num_tokens == sum(part.num_tokens for part in plan.ranges) >= 4500
    assert plan.tokens_by_cell(len(store.cells)).sum() == plan.num_tokens
    assert max(part.uses for part in plan.ranges) >= 1
    assert set(plan.files) == {"selection.parquet", "rewards.parquet"}
    assert plan.cursors_after.row_C is plan.cursors.row
    assert set(read_json(folder.plan)["ranges"][0]) == {
        *("cell", "uses", "score", "start_row", "stop_row", "start_tokens", "stop_tokens")
    }


def test_the_columns_of_a_selection_are_those_of_the_schema(store: Store, folder: RoundDir) -> None:
    schema = pq.read_schema(folder.selection).remove_metadata()
    assert schema.names == [
        *(*SELECTION_SCHEMA.names, *store.cells.agents, FIRST_TOKEN.name, STEP.name),
    ]
    fields = *SELECTION_SCHEMA, FIRST_TOKEN, STEP
    assert all(schema.field(field.name) == field for field in fields)


def test_a_file_that_is_not_the_plans_is_refused(store: Store, folder: RoundDir) -> None:
    plan = read_plan(folder.plan, store)
    assert read_selection(folder, plan).num_rows == plan.num_docs
    assert read_rewards(folder, plan, ["reward"]).to_pydict() == {"reward": [0.5, -0.5]}
    write_sealed(folder.selection, read_selection(folder, plan).slice(1), compression="zstd")
    message = (
        r"selection\.parquet is not the file that was written: its "
        r"fingerprint is \w{16}, expected \w{16}\. Put the file back that belongs to the plan"
    )
    with pytest.raises(DataError, match=message):
        read_selection(folder, plan, ["doc"])
    folder.selection.unlink()
    with pytest.raises(DataError, match=r"selection\.parquet cannot be read: .*Put the file back"):
        read_selection(folder, plan)
    change(folder.plan, lambda value: value["files"].clear())
    with pytest.raises(DataError, match=r"plan\.json says nothing of rewards\.parquet\. Give one"):
        read_rewards(folder, load_plan(folder.plan))


def test_a_flipped_bit_is_refused(store: Store, folder: RoundDir) -> None:
    text = folder.plan.read_text()
    folder.plan.write_text(text.replace('"seed": 7', '"seed": 6'))
    with pytest.raises(DataError, match=r"plan\.json was changed: its sha256 says .*Give one that"):
        read_plan(folder.plan, store)
    folder.plan.write_text('{"round": 0, "theta": {}, "weights": {}}')
    with pytest.raises(DataError, match=r"plan\.json has no 'sha256'.*Give one that `mads select`"):
        read_plan(folder.plan, store)


def test_a_plan_of_another_store_or_generation(store: Store, folder: RoundDir) -> None:
    change(folder.plan, lambda value: value.update(store="0" * 64))
    found = rf"found 0{{16}} \(generation 1\), expected {store.fingerprint[:16]} \(generation 1\)"
    with pytest.raises(DataError, match=rf"made with another store: {found}\. Give the store"):
        read_plan(folder.plan, store)
    change(folder.plan, lambda value: value.update(store=store.fingerprint, generation=3))
    with pytest.raises(DataError, match=r"\(generation 3\), expected \w{16} \(generation 1\)"):
        read_plan(folder.plan, store)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda v: v.pop("seed"), "seed: missing"),
        (lambda v: v.pop("ranges"), "ranges: missing"),
        (lambda v: v.pop("generation"), "generation: missing"),
        (lambda v: v.update(more=1), "more: unknown key"),
        (lambda v: v.update(store=None), "store: found None, expected a text"),
        (lambda v: v.update(seed="1"), "seed: found '1', expected a whole number"),
        (lambda v: v.update(seed=10**5000 // 10**800), "seed: found a number of more than 60"),
        (lambda v: v.update(ranges={}), "ranges: found a section, expected a list of a section"),
        (lambda v: v["ranges"].append(3), r"ranges\[\d+\]: found 3, expected a section"),
        (lambda v: v["ranges"][0].pop("uses"), r"ranges\[0\]\.uses: missing"),
        (lambda v: v["ranges"][0].update(cell=0.5), r"ranges\[0\]\.cell: found 0.5, expected a wh"),
        (lambda v: v["ranges"][0].update(cell=-1), r"ranges\[0\]\.cell: found -1, expected 0 to"),
        (lambda v: v["ranges"][0].update(score=float("nan")), r"ranges\[0\]\.score: found nan"),
        (lambda v: v.update(cursors=[]), r"cursors: found \[\], expected a section"),
        (lambda v: v["cursors"].pop("tokens"), r"cursors\.tokens: missing"),
        (lambda v: v["cursors"].update(passes=["x"]), r"cursors\.passes: expected a list of whole"),
        (lambda v: v["cursors"].update(row=[10**30]), r"cursors\.row: a number is too large"),
        (lambda v: v["budget"].update(unit="pages"), r"budget\.unit: 'pages' is not known"),
        (lambda v: v["files"].update(x={}), r"files\.x\.size: missing"),
    ],
)
def test_a_plan_that_is_none(
    store: Store, folder: RoundDir, edit: Callable[[Value], object], message: str
) -> None:
    value = read_sealed_json(folder.plan, "")
    edit(value)
    folder.plan.write_text(sealed(value))
    with pytest.raises(
        DataError, match=rf"plan\.json is not a plan\.json: {message}.*Give one that"
    ):
        read_plan(folder.plan, store)


def sealed(value: Value) -> str:
    """Return JSON with its seal; NaN is allowed, as it is not when mads writes."""
    return json.dumps({**value, "sha256": json_sha256(value)})


def first(plan: Value) -> Value:
    found: Value = plan["ranges"][0]
    return found


def shifted(plan: Value, rows: int = 0, tokens: int = 0) -> None:
    """Move the first range; the sums over all ranges stay."""
    for name, by in (("row", rows), ("tokens", tokens)):
        first(plan)[f"start_{name}"] += by
        first(plan)[f"stop_{name}"] += by


def doubled(plan: Value) -> None:
    """Say the first range twice, with the right sums."""
    plan["ranges"].append(dict(first(plan)))
    plan["num_docs"] += first(plan)["stop_row"] - first(plan)["start_row"]
    plan["num_tokens"] += first(plan)["stop_tokens"] - first(plan)["start_tokens"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda v: v.update(num_docs=1), r"num_docs is 1, but its ranges hold \d+ documents"),
        (lambda v: v.update(num_tokens=1), r"num_tokens is 1, but its ranges hold \d+ tokens"),
        (lambda v: v["budget"].update(amount=0), "budget.amount is 0, expected 1 to 10{18}"),
        (lambda v: v["cursors"]["row"].append(0), r"cursors of \[\d+, \d+, \d+, \d+\] cells"),
        (
            lambda v: v["cursors"]["row"].__setitem__(2, -1),
            r"cursors\.row\[2\] is -1, expected 0 to",
        ),
        (
            lambda v: v["cursors"]["row"].__setitem__(2, 99),
            r"cursors\.row\[2\] is 99, expected 0 to",
        ),
        (
            lambda v: v["cursors"]["tokens"].__setitem__(0, 10**9),
            r"cursors\.tokens\[0\] is 10{9}, ex",
        ),
        (
            lambda v: v["cursors"]["passes"].__setitem__(1, 2**61),
            r"cursors\.passes\[1\] is 23\d+, ex",
        ),
        (lambda v: first(v).update(cell=99), r"ranges\[0\]\.cell is 99, but there are \d+ cells"),
        (
            lambda v: shifted(v, rows=1000),
            r"ranges\[0\] has the rows \d+ to 10\d\d, but cell \d+ has \d+ documents",
        ),
        (
            lambda v: shifted(v, tokens=10**6),
            r"ranges\[0\] has the tokens \d+ to 100\d+, but cell \d+ has \d+",
        ),
        (
            lambda v: first(v).update(start_tokens=1, stop_tokens=first(v)["stop_tokens"] + 1),
            r"ranges\[0\].*(do not go with the tokens|has the tokens)",
        ),
        (
            lambda v: first(v).update(uses=9),
            r"ranges\[0\] takes row \d+ for the 10th time, but the cursor after it stands at row",
        ),
        (doubled, r"ranges\[0\] and ranges\[\d+\] both hold row 0"),
    ],
)
def test_a_plan_that_does_not_fit_its_store(
    store: Store, folder: RoundDir, edit: Callable[[Value], object], message: str
) -> None:
    """The plan is blamed, not the index that it would be read with."""
    change(folder.plan, edit)
    match = rf"plan\.json does not fit its store: {message}.*Give one that `mads select`"
    with pytest.raises(DataError, match=match):
        read_plan(folder.plan, store)


def test_a_number_of_5_000_digits_in_a_plan(store: Store, folder: RoundDir) -> None:
    text = folder.plan.read_text().replace('"seed": 7', '"seed": ' + "7" * 5000)
    folder.plan.write_text(text)
    with pytest.raises(DataError, match=r"plan\.json cannot be read as JSON: Exceeds the limit"):
        read_plan(folder.plan, store)


def test_the_differences_of_two_requests() -> None:
    other = SavedRequest("s", 1, "g", "800 tokens", "top", "x", 7, "1/2", False, True)
    assert REQUEST.differences(REQUEST) == []
    assert REQUEST.differences(other) == [
        "follows: f -> g",
        "budget: '900 tokens' -> '800 tokens'",
        "shard: none -> '1/2'",
    ]
    long = dataclasses.replace(REQUEST, budget="1234567890123 tokens")
    assert REQUEST.differences(long) == ["budget: '900 tokens' -> '1234567890123 tokens'"]
