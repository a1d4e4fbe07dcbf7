"""metrics.jsonl: every record survives its line, and a damaged line is told by its place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mads.errors import DataError
from mads.run.records import (
    EndRecord,
    FeedbackRecord,
    Metrics,
    Record,
    RoundRecord,
    SkippedRecord,
    StepRecord,
    guards_of,
    record_from_json,
    record_to_json,
)
from mads.sealed import read_seal

TABLE = {"kind": {"a": 1.0, "b": 0.5}}
FEEDBACK = FeedbackRecord(
    reward_s=0.5,
    probes=8,
    probe_tokens=200,
    refused="",
    guards={"entropy": 1},
    oracle_error=0.01,
    rewards={"kind": {"a": (0.1, 0.01)}},
    task_rewards={"planted": TABLE},
)
ROUND = RoundRecord(2, 10, 1.5, 30, {"kind": 1.0}, TABLE, {"planted": 2.0}, FEEDBACK)
RECORDS: list[Record] = [
    StepRecord(3, 0, 2.5, 1e-3, 512, 1e4, 1.0),
    StepRecord(4, 0, 2.5, 1e-3, 512, 1e4, 1.0, select_ms=3.0),
    ROUND,
    RoundRecord(0, 0, 1.5, 30, {}, {}, {}),
    RoundRecord(1, 5, 1.5, 30, {}, {}, {}, FeedbackRecord(0.5, 8, 200, "nothing", {"refused": 1})),
    SkippedRecord(5, 0, "the loss is nan", 512, 1e4),
    EndRecord(20, {"planted": 1.5}),
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_survives_its_json(record: Record) -> None:
    value = json.loads(json.dumps(record_to_json(record)))
    assert record_from_json(value, Path("m.jsonl")) == record
    assert value["kind"] == record.kind


def test_what_a_round_found_stands_among_its_other_keys() -> None:
    assert record_to_json(ROUND).keys() == {
        *("kind", "round", "step", "select_ms", "num_docs", "theta", "weights", "losses"),
        *("reward_s", "probes", "probe_tokens", "refused", "guards", "oracle_error"),
        *("rewards", "task_rewards"),
    }


def write(path: Path, records: Sequence[Record]) -> Metrics:
    metrics = Metrics(path)
    for record in records:
        metrics.write(record)
    return metrics


def test_half_a_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert Metrics(path).read() == []
    metrics = write(path, RECORDS)
    metrics.sync()
    with path.open("a") as handle:
        handle.write('{"kind": "st')
    assert metrics.read() == RECORDS


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"kind": "st', r"metrics\.jsonl:2 is not JSON: .*Put the file back, or put the name of"),
        ("[" * 100_000, r"metrics\.jsonl:2 is not JSON"),
        ("[]", r"metrics\.jsonl:2 is no record of a run: its kind is None"),
        ('{"kind": "stop"}', r"metrics\.jsonl:2 is no record of a run: its kind is 'stop'"),
        ('{"kind": "end", "step": 1}', r"metrics\.jsonl:2 is not a record of a run: losses: miss"),
        (
            '{"kind": "end", "step": 1, "losses": {"a": NaN}}',
            r"metrics\.jsonl:2 is not a record of a run: losses\.a: found nan",
        ),
    ],
)
def test_a_damaged_line_is_refused_with_its_number(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, RECORDS[:2])
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{line}\n{second}\n")
    with pytest.raises(DataError, match=message):
        Metrics(path).read()


def test_what_came_after_a_checkpoint_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = write(path, RECORDS[:2])
    seal, whole = read_seal(path), path.read_bytes()
    metrics.check(seal)
    write(path, RECORDS[2:])
    metrics.check(seal)
    metrics.cut(seal.size)
    assert path.read_bytes() == whole
    metrics.cut(seal.size)
    assert metrics.read() == RECORDS[:2]


def test_the_remedy_for_a_damaged_line_works(tmp_path: Path) -> None:
    """A run goes on from a checkpoint before the damage, and the lines after it are cut."""
    path = tmp_path / "metrics.jsonl"
    metrics = write(path, RECORDS[:2])
    older = read_seal(path)
    write(path, RECORDS[2:])
    newer, content = read_seal(path), path.read_bytes()
    path.write_bytes(content[: older.size] + b"{" + content[older.size :])
    for failing in (metrics.read, lambda: metrics.check(newer)):
        with pytest.raises(
            DataError, match="checkpoint from before the damage into checkpoints/la"
        ):
            failing()
    metrics.check(older)
    metrics.cut(older.size)
    assert metrics.read() == RECORDS[:2]


def test_every_changed_byte_before_a_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = write(path, RECORDS)
    seal, whole = read_seal(path), path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DataError, match=r"metrics\.jsonl was changed: the sha256 of its first"):
            metrics.check(seal)
    for content in (b"", whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"metrics\.jsonl was changed"):
            metrics.check(seal)
    path.unlink()
    with pytest.raises(DataError, match=r"metrics\.jsonl was changed"):
        metrics.check(seal)


def test_steps_that_are_done_are_read_from_the_end(tmp_path: Path) -> None:
    """Whatever is cut at either end is passed over."""
    path = tmp_path / "m.jsonl"
    assert Metrics(path).steps_done() == 0
    metrics = write(path, RECORDS[:2])
    assert metrics.steps_done() == 5
    with path.open("a") as handle:
        handle.write('{"kind": "step", "st')
    assert metrics.steps_done() == 5
    assert write(tmp_path / "round.jsonl", [*RECORDS[:2], ROUND]).steps_done() == 10
    assert write(tmp_path / "end.jsonl", RECORDS).steps_done() == 20
    many = write(tmp_path / "many.jsonl", [StepRecord(i, 0, 2.5, 1, 9, 9, 1) for i in range(2000)])
    assert (tmp_path / "many.jsonl").stat().st_size > 1 << 16
    assert many.steps_done() == 2000
    path.write_text("no record\n")
    assert metrics.steps_done() == 0


def test_the_steps_of_the_newest_round_are_read_from_the_end(tmp_path: Path) -> None:
    losses = {"web": (12.5, 4.0), "code": (0.1 + 0.2, 1.0)}
    steps = [
        StepRecord(n, n // 2, 3.0, 1e-3, 512, 9.0, 1.0, category_losses=losses) for n in range(5)
    ]
    path = tmp_path / "metrics.jsonl"
    metrics = write(path, [*steps[:4], ROUND, steps[4]])
    assert metrics.steps_of(2) == steps[4:]
    assert write(tmp_path / "two.jsonl", steps[:4]).steps_of(1) == steps[2:4]
    assert metrics.steps_of(7) == []
    path.write_text(path.read_text() + "{\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl:7 is not JSON"):
        metrics.steps_of(2)


def test_a_round_longer_than_the_end_that_is_read_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much of the file that is, the steps are those of the whole file."""
    steps = [StepRecord(n, n // 30, 3.0, 1e-3, 512, 9.0, 1.0) for n in range(75)]
    metrics = write(tmp_path / "metrics.jsonl", steps)
    for size in (1, 100, 150, 1_000, 10_000):
        monkeypatch.setattr("mads.run.records._END", size)
        assert metrics.steps_of(2) == steps[60:]
        assert metrics.steps_of(1) == []
    whole = write(tmp_path / "one.jsonl", steps[:30])
    monkeypatch.setattr("mads.run.records._END", 100)
    assert whole.steps_of(0) == steps[:30]


def test_skipped_steps_are_passed_over_and_counted_from_the_end(tmp_path: Path) -> None:
    steps = [StepRecord(n, 0, 3.0, 1e-3, 512, 9.0, 1.0) for n in range(3)]
    bad = [SkippedRecord(n, 0, "the loss is nan", 512, 9.0) for n in range(3, 6)]
    metrics = write(tmp_path / "m.jsonl", [*steps[:2], bad[0], steps[2], *bad[1:]])
    assert metrics.skipped_in_a_row() == 2
    assert metrics.steps_of(0) == steps
    assert metrics.steps_done() == 6
    ahead = write(tmp_path / "n.jsonl", [steps[0], bad[0], replace(ROUND, round=1), bad[1]])
    assert ahead.skipped_in_a_row() == 2
    assert ahead.steps_of(1) == []
    assert write(tmp_path / "o.jsonl", bad).skipped_in_a_row() == 3
    assert Metrics(tmp_path / "none").skipped_in_a_row() == 0
    assert guards_of([*steps, *bad]) == {"skipped": 3}
    assert guards_of(steps) == {}


def test_guards_and_alarms_are_counted_over_all_rounds() -> None:
    other = replace(ROUND, feedback=None, alarms={"swing": 2})
    both = replace(ROUND, alarms={"swing": 1})
    assert guards_of([*RECORDS, other, both]) == {
        "skipped": 1,
        "entropy": 2,
        "refused": 1,
        "swing": 3,
    }
