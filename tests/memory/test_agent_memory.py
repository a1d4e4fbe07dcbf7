"""A memory says what it was made from, and holds nothing that selection could trip over."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mads.errors import DataError
from mads.memory.agent_memory import MemoryHeader, check_header, read_header, write_memory
from mads.types import NO_CATEGORY, Labels

HEADER = MemoryHeader("topic", ("art'; DROP TABLE x; --", "../x", "日本\n"), "c" * 64, "f" * 64)
DOCS = np.arange(4, dtype=np.uint64) + np.uint64(3 << 32)


def labels(categories: list[int], scores: list[float]) -> Labels:
    return Labels(np.array(categories, np.uint16), np.array(scores, np.float32))


GOOD = labels([0, 2, NO_CATEGORY, 1], [0.5, 1.0, 0.0, -3.0])


def test_a_memory_survives_the_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "shard-00003.parquet"
    write_memory(path, HEADER, DOCS, GOOD)
    table = pq.read_table(path)
    assert table["doc"].to_pylist() == DOCS.tolist()
    assert table["category"].to_pylist() == [0, 2, NO_CATEGORY, 1]
    assert table["score"].to_pylist() == [0.5, 1.0, 0.0, -3.0]
    assert [str(field.type) for field in table.schema] == ["uint64", "uint16", "float"]
    assert read_header(path) == HEADER
    check_header(path, HEADER)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused(tmp_path: Path, score: float) -> None:
    message = rf"agent 'topic' gave the score {score} to row 2 of m\.parquet; scores must be finite"
    with pytest.raises(DataError, match=message):
        write_memory(tmp_path / "m.parquet", HEADER, DOCS, labels([0, 1, 2, 0], [0, 1, score, 2]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("category", [3, 65_534])
def test_a_category_that_the_agent_lacks_is_refused(tmp_path: Path, category: int) -> None:
    message = rf"agent 'topic' gave category {category} to row 1 of m\.parquet; it has 3 categories"
    with pytest.raises(DataError, match=message):
        write_memory(tmp_path / "m.parquet", HEADER, DOCS, labels([0, category, 1, 2], [0] * 4))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("agent", "domain", "its agent is 'topic', expected 'domain'"),
        ("categories", ("a", "b"), r"its categories is .*DROP TABLE.*, expected \('a', 'b'\)"),
        ("classifier", "d" * 64, f"its classifier is '{'c' * 64}', expected '{'d' * 64}'"),
        ("corpus", "e" * 64, f"its corpus is '{'f' * 64}', expected '{'e' * 64}'"),
        ("version", 2, "its version is 1, expected 2"),
    ],
)
def test_a_memory_of_something_else_is_refused_with_both_values(
    tmp_path: Path, name: str, value: object, shown: str
) -> None:
    path = tmp_path / "m.parquet"
    write_memory(path, HEADER, DOCS, GOOD)
    expected = replace(HEADER, **{name: value})  # type: ignore[arg-type]
    with pytest.raises(DataError, match=rf"m\.parquet does not belong to this store: {shown}"):
        check_header(path, expected)


def test_what_is_no_memory_is_refused(tmp_path: Path) -> None:
    table = pa.table({"doc": [1]})
    contents = {
        "garbage": b"not parquet",
        "empty": b"",
        "no-header": None,
        "half-header": json.dumps({"agent": "x"}).encode(),
        "more-header": json.dumps({"categories": [], "colour": 1}).encode(),
        "list-header": b"[]",
        "text-header": b"{",
    }
    for name, content in contents.items():
        path = tmp_path / name
        if name in ("garbage", "empty"):
            path.write_bytes(content or b"")
        else:
            header = None if content is None else {b"mads": content}
            pq.write_table(table.replace_schema_metadata(header), path)
        with pytest.raises(DataError, match=rf"{name} is not a readable memory: .* Delete it and"):
            read_header(path)
    with pytest.raises(DataError, match="missing is not a readable memory: "):
        read_header(tmp_path / "missing")
