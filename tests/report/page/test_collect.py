"""What a page shows of a run agrees with the run's files."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from toys import MakeStore

from mads.console.bayes import GAIN
from mads.errors import DataError
from mads.report.page.collect import collect, cramers_v


def test_losses_rounds_and_costs_are_the_files(folder: Path) -> None:
    found = collect(folder / "run", None)
    records = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    steps = [r for r in records if r["kind"] == "step"]
    rounds = [r for r in records if r["kind"] == "round"]
    ends = [r for r in records if r["kind"] == "end"]
    assert found.training == tuple((r["step"], r["loss"]) for r in steps)
    points = tuple((r["step"], r["losses"]["planted"]) for r in [*rounds, *ends])
    assert found.losses == {"planted": points}
    assert (found.steps_done, found.steps, found.ended) == (20, 20, True)
    assert [one.record.round for one in found.rounds] == [0, 1, 2, 3]
    assert found.cost.training_tokens == 20 * 512
    assert found.cost.reward_tokens == sum(r.get("probe_tokens", 0) for r in rounds)
    assert found.cost.training_s == pytest.approx(
        sum(r["tokens"] / r["tokens_per_s"] for r in steps)
    )
    assert [number for number, _ in found.measured] == [1, 2, 3]
    assert found.store is None


def test_intervals_of_weights_follow_from_the_covariance(folder: Path) -> None:
    found = collect(folder / "run", None)
    state = json.loads((folder / "run/rounds/0003/console.json").read_text())
    variance = state["memory"]["covariance"]["kind/useful"]["kind/useful"]
    error = GAIN * math.sqrt(variance) / state["theta"]["kind"]
    assert found.rounds[0].weight_error == {}
    assert found.rounds[3].weight_error["kind"]["useful"] == pytest.approx(error)
    assert found.effects is not None
    assert found.effects.mean["kind"]["useful"] == state["memory"]["mean"]["kind/useful"]
    assert found.effects.deviation["kind"]["useful"] == pytest.approx(math.sqrt(variance))


def test_the_store_gives_compositions_and_labels(folder: Path) -> None:
    found = collect(folder / "run", folder / "store").store
    assert found is not None
    assert found.docs["kind"] == pytest.approx({"useful": 1 / 3, "neutral": 1 / 3, "noise": 1 / 3})
    for number, read in found.read.items():
        path = folder / "run" / "rounds" / f"{number:04d}" / "selection.parquet"
        rows = pq.read_table(path).to_pylist()
        useful = sum(row["num_tokens"] for row in rows if row["kind"] == "useful")
        share = useful / sum(row["num_tokens"] for row in rows)
        assert read["kind"]["useful"] == pytest.approx(share)
    assert found.agreement["kind", "quality"] == pytest.approx(1)
    assert found.agreement["kind", "coin"] < 0.3


def test_cramers_v_by_hand() -> None:
    """Counts (30, 10; 10, 30): χ² = 4 · 10² / 20 = 20, V = √(20 / 80) = ½."""
    assert cramers_v(np.array([[30.0, 10], [10, 30]])) == pytest.approx(0.5)
    assert cramers_v(np.array([[10.0, 20], [20, 40]])) == pytest.approx(0)
    assert cramers_v(np.array([[5.0, 0, 0], [0, 5, 0], [0, 0, 0]])) == 1  # one never occurs
    assert math.isnan(cramers_v(np.array([[5.0, 7], [0, 0]])))


def test_another_store_is_refused(folder: Path, make_store: MakeStore) -> None:
    other = make_store([{"text": "a b c", "meta": {"domain": "code"}, "quality": 1}])
    with pytest.raises(DataError, match=r"was trained on another store: .*Give that store as --st"):
        collect(folder / "run", other)


def test_a_damaged_record_is_refused(folder: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(folder / "run", tmp_path / "run"))
    with (run / "metrics.jsonl").open("a") as handle:
        handle.write("{]\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl:\d+ is not JSON"):
        collect(run, None)
