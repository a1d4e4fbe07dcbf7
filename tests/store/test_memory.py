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
from mads.sealed import METADATA_KEY, Seal, read_seal
from mads.store.memory import (
    MemoryHeader,
    check_header,
    read_header,
    read_memory,
    read_scores,
    write_memory,
    write_scores,
)
from mads.types import NO_CATEGORY, Labels, Scores

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


@pytest.mark.parametrize("category", [3, NO_CATEGORY - 1])
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
        ("shard", "e" * 64, f"its shard is '{'f' * 64}', expected '{'e' * 64}'"),
        ("version", 1, "its version is 3, expected 1"),
        ("edges", (0.5, 1.0), r"its edges is None, expected \(0\.5, 1\.0\)"),
        ("unbinned", True, "its unbinned is False, expected True"),
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


def test_scores_wait_for_their_bins_in_a_file_that_says_so(tmp_path: Path) -> None:
    header, path = replace(HEADER, unbinned=True), tmp_path / "m.parquet"
    scores = Scores(np.array([0, 1, 0, 2], np.float32), np.array([False, True, False, True]))
    write_scores(path, header, DOCS, scores)
    assert read_header(path) == header
    found = read_scores(path, header, 3, 4)
    assert found.known_N.tolist() == [False, True, False, True]
    assert found.score_N.tolist() == [0, 1, 0, 2]
    with pytest.raises(DataError, match="its unbinned is True, expected False"):
        read_memory(path, HEADER, 3, 4)
    broken = Scores(np.array([0, np.nan], np.float32), np.ones(2, bool))
    with pytest.raises(DataError, match=r"gave the score nan to row 1 of m\.parquet"):
        write_scores(path, header, DOCS[:2], broken)


def test_edges_are_read_back_to_the_last_bit(tmp_path: Path) -> None:
    edges = tuple(float(np.float32(x)) for x in (-0.1, 0.30000001, 7e30))
    write_memory(tmp_path / "m.parquet", replace(HEADER, edges=edges), DOCS, GOOD)
    assert read_header(tmp_path / "m.parquet").edges == edges


def test_a_memory_is_read_whole_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    write_memory(path, HEADER, DOCS, GOOD)
    found = read_memory(path, HEADER, 3, 4, read_seal(path))
    assert found.category_N.tolist() == GOOD.category_N.tolist()
    assert found.score_N.tolist() == GOOD.score_N.tolist()
    with pytest.raises(DataError, match=r"m\.parquet has 4 rows, expected 5\. Delete it, if"):
        read_memory(path, HEADER, 3, 5)
    other = rf"another shard: row 0 is document {3 << 32}, expected {2 << 32}\. Delete it, if it is"
    with pytest.raises(DataError, match=rf"m\.parquet belongs to {other}"):
        read_memory(path, HEADER, 2, 4)
    with pytest.raises(DataError, match=r"its fingerprint is [0-9a-f]{16}, expected a{16}\. "):
        read_memory(path, HEADER, 3, 4, Seal(1, "a" * 64))


def test_an_edited_value_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    write_memory(path, HEADER, DOCS, GOOD)
    table = pq.ParquetFile(path).read()
    category = pa.array([1, 2, NO_CATEGORY, 1], pa.uint16())
    pq.write_table(table.set_column(1, table.schema.field(1), category), path)
    # The editor kept the header, but wrote a footer of its own.
    changed = r"m\.parquet is not the file that was written: its footer's fingerprint is"
    with pytest.raises(DataError, match=changed):
        check_header(path, HEADER)
    with pytest.raises(DataError, match=changed):
        read_memory(path, HEADER, 3, 4)


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
            header = None if content is None else {METADATA_KEY: content}
            pq.write_table(table.replace_schema_metadata(header), path)
        with pytest.raises(
            DataError, match=rf"{name} (is not a memory|cannot be read): .* Delete it,"
        ):
            read_header(path)
    with pytest.raises(DataError, match="missing cannot be read: "):
        read_header(tmp_path / "missing")
