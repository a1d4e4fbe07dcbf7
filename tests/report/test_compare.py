"""What a comparison says agrees with the files of its runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from report.compared import SEEDS

from mads.errors import DataError
from mads.experiments.arms import Arms
from mads.layout import ComparisonDir
from mads.report.compare import (
    HELD_OUT,
    REFERENCES,
    Comparison,
    Curve,
    Needed,
    compare,
    needed,
    paired,
    read_comparison,
    write_comparison,
)
from mads.report.statistics import estimate
from mads.run.reader import Run
from mads.store.store import Store


@pytest.fixture(scope="session")
def found(folder: Path, root: Path, arms: Arms) -> Comparison:
    return compare(Store(folder / "store"), ComparisonDir(root), arms, SEEDS)


def result(root: Path, arm: str, seed: int) -> dict[str, float]:
    path = root / arm / f"seed-{seed}" / "result.json"
    losses: dict[str, float] = json.loads(path.read_text())["losses"]
    return losses


def test_final_losses_and_their_differences(root: Path, found: Comparison) -> None:
    for task, group in (("planted", REFERENCES), ("held", HELD_OUT)):
        ends = {a: [result(root, a, seed)[task] for seed in SEEDS] for a in found.arms}
        pairs = zip(ends["online"], ends["natural"], strict=True)
        online = found.arms["online"]
        assert online.tasks[task] == online.means[group] == estimate(ends["online"])
        assert online.task_differences[task] == estimate([a - b for a, b in pairs])
        assert online.task_differences[task] == online.mean_differences[group]
    natural = found.arms["natural"]
    assert (natural.task_differences, natural.mean_differences, natural.needed) == ({}, {}, {})
    assert "planted-text" not in found.arms["online"].tasks  # only what all arms have


def test_seeds_begin_alike_in_all_arms_and_differ_from_each_other(found: Comparison) -> None:
    first = {
        arm: [run.curve.tasks["planted"][0] for run in of.runs] for arm, of in found.arms.items()
    }
    assert first["natural"] == first["online"]
    assert first["natural"][0] != first["natural"][1]


def test_curves_are_in_tokens(found: Comparison) -> None:
    for arm in found.arms.values():
        for run in arm.runs:
            assert run.curve.tokens == (0, 5 * 512, 10 * 512)
    assert (found.tokens, found.seeds, found.baseline) == (5120, SEEDS, "natural")


def test_what_was_read_is_what_was_selected(root: Path, found: Comparison) -> None:
    for arm, of in found.arms.items():
        assert sum(of.read["kind"].values()) == pytest.approx(1)
        for run in of.runs:
            assert [one.tokens for one in run.rounds] == [2560, 2560]
            for one in run.rounds:
                folder = root / arm / f"seed-{run.seed}" / "rounds" / f"{one.round:04d}"
                table = pq.read_table(folder / "selection.parquet").to_pylist()
                useful = sum(row["num_tokens"] for row in table if row["kind"] == "useful")
                share = useful / sum(row["num_tokens"] for row in table)
                assert one.shares["kind"]["useful"] == pytest.approx(share)
            mean = sum(one.shares["kind"]["useful"] for one in run.rounds) / 2
            assert run.read["kind"]["useful"] == pytest.approx(mean)
        mean = sum(run.read["kind"]["useful"] for run in of.runs) / len(SEEDS)
        assert of.read["kind"]["useful"] == pytest.approx(mean)
    assert found.corpus["kind"].keys() == {"useful", "neutral", "noise"}


def test_cost_counts_the_rewards_of_both_objectives(root: Path, found: Comparison) -> None:
    """30,816 parameters; items of 4 lines, whose tokens two gradients read."""
    assert found.parameters == Run(root / "natural" / "seed-0").num_parameters == 30_816
    training = 6 * found.parameters * 5120
    natural, online = found.arms["natural"].cost, found.arms["online"].cost
    assert (natural.training, natural.selection) == (training, 0)
    assert online.training == training
    lines = (root / "online" / "seed-0" / "metrics.jsonl").read_text().splitlines()
    record = next(line for line in map(json.loads, lines) if "probes" in line)
    tokens, probes = record["probe_tokens"], record["probes"]
    least = found.parameters * (2 * 2 * 2 * tokens + 6 * tokens * 8 / probes)
    references = found.arms["online"].runs[0].cost.selection - least
    assert references % (found.parameters * 6 * 2) == pytest.approx(0, abs=1)
    assert 4 * 10 < references / (found.parameters * 6 * 2) < 4 * 32


def test_a_comparison_is_read_back_as_it_was_written(found: Comparison, tmp_path: Path) -> None:
    path = tmp_path / "comparison.json"
    write_comparison(path, found)
    assert read_comparison(path) == found
    path.write_text(path.read_text().replace('"baseline": "natural"', '"baseline": "online"'))
    with pytest.raises(DataError, match=r"was changed: .*Run the same `mads compare` again"):
        read_comparison(path)
    with pytest.raises(DataError, match="does not exist"):
        read_comparison(tmp_path / "nowhere.json")


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> ComparisonDir:
    """A comparison that a test may damage."""
    return ComparisonDir(Path(shutil.copytree(root, tmp_path / "comparison")))


def test_a_run_that_has_not_ended_is_refused(folder: Path, copy: ComparisonDir, arms: Arms) -> None:
    copy.run("online", 3).result.unlink()
    with pytest.raises(DataError, match=r"online/seed-3 has not ended: .*the same `mads compare`"):
        compare(Store(folder / "store"), copy, arms, SEEDS)


def test_a_run_of_another_arm_is_refused(folder: Path, copy: ComparisonDir, arms: Arms) -> None:
    place = copy.run("online", 3).root
    shutil.rmtree(place)
    shutil.copytree(copy.run("natural", 3).root, place)
    with pytest.raises(DataError, match=r"is not the run of arm 'online' with seed 3: selection\."):
        compare(Store(folder / "store"), copy, arms, SEEDS)


def test_another_start_under_the_same_seed_is_refused(
    folder: Path, copy: ComparisonDir, arms: Arms
) -> None:
    path = copy.run("online", 3).metrics
    first, *rest = path.read_text().splitlines()
    record = json.loads(first)
    record["losses"]["planted"] *= 1.01
    path.write_text("\n".join([json.dumps(record), *rest]) + "\n")
    with pytest.raises(DataError, match=r"online/seed-3 did not begin as natural with the same se"):
        compare(Store(folder / "store"), copy, arms, SEEDS)


@pytest.mark.parametrize("damage", ["gone", "flipped"])
def test_without_its_last_checkpoint_the_size_is_not_known(
    copy: ComparisonDir, damage: str
) -> None:
    run = copy.run("natural", 0)
    path = run.checkpoint(10) / "optimizer.safetensors"
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flipped":
        content[-1] ^= 1
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"optimizer\.safetensors .*number of parameters is read"):
        _ = Run(run.root).num_parameters


def curve(*losses: float) -> Curve:
    """A curve of a point every 100 tokens."""
    return Curve(tuple(range(0, 100 * len(losses), 100)), {}, {REFERENCES: losses})


def test_tokens_needed_are_paired_by_seed() -> None:
    """Two seeds: 2 at 100 of 200 tokens, and 3 at 200 of 200: ratios 2 and 1, mean √2."""
    mine, others = [curve(4, 2, 1), curve(6, 5, 3)], [curve(4, 3, 2), curve(6, 4, 3)]
    found = needed(mine, others, REFERENCES)
    assert found.tokens == (100, 200)
    assert found.ratio is not None
    assert found.ratio.mean == pytest.approx(2**0.5)
    assert found.at_most is None


def test_a_seed_that_never_reaches_gives_a_bound() -> None:
    mine, others = [curve(4, 2, 1), curve(6, 5, 3.5)], [curve(4, 3, 2), curve(6, 4, 3)]
    found = needed(mine, others, REFERENCES)
    assert (found.tokens, found.ratio) == ((100, None), None)
    assert found.at_most == pytest.approx(2**0.5)
    found = needed(mine[1:], others[1:], REFERENCES)
    assert (found.tokens, found.ratio, found.at_most) == ((None,), None, 1.0)


def test_a_baseline_that_learns_nothing_gives_no_ratio() -> None:
    assert needed([curve(4, 2)], [curve(4, 4)], REFERENCES) == Needed((0.0,), None, None)


def test_differences_are_paired() -> None:
    """Differences −1 and −3: mean −2, standard error 1, however far the seeds lie apart."""
    found = paired({"task": [4.0, 97.0]}, {"task": [5.0, 100.0]})["task"]
    assert found.mean == -2
    assert found.stderr == pytest.approx(1)
