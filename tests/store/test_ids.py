"""Ids are counted exactly, in as many passes as they take."""

from __future__ import annotations

import pytest

from mads.corpus.ids import id_of
from mads.store.ids import count_ids
from mads.store.manifest import IdCounts

SHARDS: list[list[str | None]] = [["a", "b", None, "a"], [], ["c", "b", None], ["a"]]


@pytest.mark.parametrize("part_rows", [1, 3, 100])
def test_missing_and_repeated_ids_are_counted(part_rows: int) -> None:
    assert count_ids(lambda: SHARDS, 8, part_rows) == IdCounts(missing=2, repeated=3)
    assert count_ids(list, 0, part_rows) == IdCounts(0, 0)


def test_what_is_an_id() -> None:
    found = [id_of(value) for value in ("é", 0, -5, 2**70, 1.5, False, None, "", ["a"], "\ud83d")]
    assert found == ["é", "0", "-5", str(2**70), None, None, None, None, None, "?"]
