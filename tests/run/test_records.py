"""metrics.jsonl survives being killed."""

from __future__ import annotations

from pathlib import Path

from mads.run.records import Metrics


def test_metrics_survive_half_a_line_and_are_cut(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl")
    assert metrics.read() == []
    assert metrics.find("step") is None
    for step in range(4):
        metrics.write({"kind": "step", "step": step})
    metrics.write({"kind": "end", "step": 4})
    with (tmp_path / "metrics.jsonl").open("a") as handle:
        handle.write('{"kind": "st')
    assert [record["step"] for record in metrics.read()] == [0, 1, 2, 3, 4]
    assert metrics.find("step") == {"kind": "step", "step": 3}
    metrics.cut(2, keep_end=True)
    assert [record["step"] for record in metrics.read()] == [0, 1, 4]
    metrics.cut(2, keep_end=False)
    metrics.write({"kind": "step", "step": 2})
    metrics.sync()
    assert [record["step"] for record in metrics.read()] == [0, 1, 2]
