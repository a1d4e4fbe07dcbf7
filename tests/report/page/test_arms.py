"""Reading comparisons, finished and not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from report.compared import SEEDS
from toys import MakeStore

from mads.errors import DataError, UsageError
from mads.experiments.arms import Arms
from mads.experiments.comparison import write_arms
from mads.layout import ComparisonDir
from mads.report.compare import compare, write_comparison
from mads.report.page.arms import collect_comparison, comparable
from mads.store.store import Store


@pytest.fixture
def going_on(folder: Path, root: Path, arms: Arms, tmp_path: Path) -> ComparisonDir:
    """A comparison whose last run has not ended."""
    out = ComparisonDir(Path(shutil.copytree(root, tmp_path / "comparison")))
    write_arms(out, Store(folder / "store"), arms)
    out.run("online", SEEDS[1]).result.unlink()
    return out


def test_what_has_ended_is_compared(folder: Path, going_on: ComparisonDir) -> None:
    data = collect_comparison(going_on.root, folder / "store")
    assert not data.ended
    assert data.found.seeds == SEEDS[:1]
    assert list(data.found.arms) == ["natural", "online"]
    assert data.progress["online", SEEDS[1]] == (10, False)
    assert data.changes["natural"] == ()
    assert any("policy" in change for change in data.changes["online"])


def test_one_that_goes_on_needs_the_store(going_on: ComparisonDir) -> None:
    with pytest.raises(UsageError, match=r"still going on. Add --store STORE"):
        collect_comparison(going_on.root, None)


def test_nothing_to_compare_yet(folder: Path, going_on: ComparisonDir) -> None:
    for seed in SEEDS:
        going_on.run("natural", seed).result.unlink()
    with pytest.raises(UsageError, match=r"nothing to compare yet: no seed of the baseline 'nat"):
        collect_comparison(going_on.root, folder / "store")


def test_a_finished_one_needs_no_store(
    folder: Path, root: Path, arms: Arms, going_on: ComparisonDir
) -> None:
    shutil.copy(ComparisonDir(root).run("online", 3).result, going_on.run("online", 3).result)
    found = compare(Store(folder / "store"), going_on, arms, SEEDS)
    write_comparison(going_on.comparison, found)
    data = collect_comparison(going_on.root, None)
    assert data.ended
    assert data.found == found


def test_another_store_is_refused(going_on: ComparisonDir, make_store: MakeStore) -> None:
    other = make_store([{"text": "a b c", "meta": {"domain": "code"}, "quality": 1}])
    with pytest.raises(DataError, match=r"compares arms on another store: .*Give that store"):
        collect_comparison(going_on.root, other)


def test_arms_and_seeds_that_have_most_runs() -> None:
    """b shares two seeds with the baseline, c one: two arms with two seeds beat three with one."""
    ended = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("c", 1), ("d", 7)]
    progress = dict.fromkeys(ended, (9, True)) | {("c", 0): (3, False)}
    assert comparable("a", progress) == ({"a", "b"}, [0, 1])
    assert comparable("d", progress)[1] == []
    assert comparable("x", progress)[1] == []
