"""The most and the least rewarded documents."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from mads.report.page.documents import SHOWN, rewarded_documents
from mads.run.reader import Run
from mads.store.store import Store


def test_they_are_those_of_the_last_measured_round(folder: Path) -> None:
    store, run = Store(folder / "store"), Run(folder / "run")
    number, found = rewarded_documents(store, run.rounds)
    assert number == 3
    assert len(found) == 2 * SHOWN
    table = pq.read_table(folder / "run/rounds/0003/rewards.parquet").to_pylist()
    rewards = sorted({row["doc"]: row["reward"] for row in table}.values())
    shown = [one.reward for one in found]
    assert shown == sorted(shown, reverse=True)
    assert (shown[0], shown[-1]) == (rewards[-1], rewards[0])
    lines = (folder / "corpus.jsonl").read_text().splitlines()
    for one in found:
        document = json.loads(lines[one.row])
        assert one.file.endswith("corpus.jsonl")
        assert one.labels["kind"] == document["kind"]
        assert document["text"].startswith(one.excerpt.removesuffix("…"))
        assert len(one.excerpt) > 20


def test_a_run_without_rewards_has_none(folder: Path) -> None:
    rounds = Run(folder / "run").rounds[:1]
    assert rewarded_documents(Store(folder / "store"), rounds) == (None, ())
