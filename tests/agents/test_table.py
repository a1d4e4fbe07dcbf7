"""The ``table`` back-end: every way of finding a document's label finds the planted one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toys import write_jsonl

from mads.agents import open_agent
from mads.agents.agent import QuantileBins, prepare
from mads.agents.table.agent import TableConfig
from mads.agents.table.files import span_score
from mads.errors import MadsError
from mads.types import FILE, ID, ROW, Agent, DocumentBatch, Status

NUM_ROWS = 40
KINDS = [["web", "code", "books"][i * 7 % 3] for i in range(NUM_ROWS)]
CORPUS = {"in/documents/cc/0.jsonl.gz": 15, "in/documents/cc/1.jsonl.gz": 25}


def batch(ids: list[Any], file: str = "", rows: list[int] | None = None) -> DocumentBatch:
    n = len(ids)
    fields: dict[str, list[object]] = {
        ID: ids,
        FILE: [file] * n,
        ROW: list(rows) if rows is not None else list(range(n)),
    }
    return DocumentBatch(["x"] * n, [Status.OK] * n, [1] * n, fields)


def of(**keys: Any) -> TableConfig:
    files = tuple(str(file) for file in keys.pop("files"))
    return TableConfig("table", files=files, **keys)


def opened(
    config: TableConfig, folder: Path, files: dict[str, int] | None = None
) -> Agent | QuantileBins:
    agent = open_agent("mine", config)
    prepare(agent, folder / "prepared", files or {"c.jsonl": NUM_ROWS})
    return agent


def labels(agent: Agent | QuantileBins, documents: DocumentBatch) -> list[str]:
    assert not isinstance(agent, QuantileBins)
    return [agent.categories[i] for i in agent.label(documents).category_N]


def message(config: TableConfig, folder: Path, documents: DocumentBatch, **files: Any) -> str:
    with pytest.raises(MadsError) as caught:
        labels(opened(config, folder, **files), documents)
    return str(caught.value)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """Two files that have the ids in another order, in two formats."""
    rows: list[dict[str, Any]] = [{"doc": f"d{i}", "kind": KINDS[i]} for i in range(NUM_ROWS)]
    write_jsonl(tmp_path / "tables" / "a.jsonl", rows[NUM_ROWS // 2 :][::-1])
    pq.write_table(pa.Table.from_pylist(rows[: NUM_ROWS // 2]), tmp_path / "tables" / "b.parquet")
    return tmp_path / "tables"


NAMED: dict[str, Any] = {"field": "kind", "categories": ("web", "code", "books")}


def test_labels_are_found_by_ids_in_any_order(tables: Path, tmp_path: Path) -> None:
    agent = opened(of(files=[tables / "*"], id="doc", **NAMED), tmp_path)
    order = np.random.default_rng(0).permutation(NUM_ROWS).tolist()
    found = labels(agent, batch([f"d{i}" for i in order]))
    assert found == [KINDS[i] for i in order]


def test_a_whole_number_and_its_digits_are_one_id(tmp_path: Path) -> None:
    table = write_jsonl(tmp_path / "t.jsonl", [{"id": 7, "kind": "web"}, {"id": "8", "kind": "b"}])
    config = of(files=[table], id="id", field="kind", categories=("web", "b"))
    assert labels(opened(config, tmp_path), batch(["8", "7"])) == ["b", "web"]


def test_what_the_table_does_not_know_is_refused_or_has_its_category(
    tables: Path, tmp_path: Path
) -> None:
    config = of(files=[tables], id="doc", **NAMED)
    documents = batch(["d0", "d99", None, "d1"])
    found = message(config, tmp_path, documents)
    assert "says nothing of 2 of 4 documents here, first the id 'd99'" in found
    assert 'agents.mine.missing = "unknown"' in found
    unknown = opened(of(files=[tables], id="doc", missing="unknown", **NAMED), tmp_path / "2")
    assert unknown.categories == ("web", "code", "books", "unknown")
    assert labels(unknown, documents) == [KINDS[0], "unknown", "unknown", KINDS[1]]
    other = opened(of(files=[tables], id="doc", other="web", **NAMED), tmp_path / "3")
    assert labels(other, documents) == [KINDS[0], "web", "web", KINDS[1]]


def test_numbers_make_bins_and_missing_ones_a_category_after_them(tmp_path: Path) -> None:
    rows = [{"id": f"d{i}", "level": None if i == 3 else i / 4} for i in range(8)]
    table = write_jsonl(tmp_path / "t.jsonl", rows)
    keys: dict[str, Any] = {"files": [table], "id": "id", "field": "level", "missing": "unknown"}
    fixed = opened(of(edges=(1.0,), categories=("low", "high"), **keys), tmp_path)
    assert labels(fixed, batch(["d7", "d4", "d3", "d0"])) == ["high", "high", "unknown", "low"]
    bins = opened(of(quantiles=2, **keys), tmp_path / "2")
    assert isinstance(bins, QuantileBins)
    assert (bins.categories, bins.other, bins.num_bins) == (("q1", "q2", "unknown"), 2, 2)
    scores = bins.score(batch(["d7", "d3", "nobody"]))
    assert (scores.score_N.tolist(), scores.known_N.tolist()) == (
        [1.75, 0, 0],
        [True, False, False],
    )


def test_one_id_with_two_values_is_refused_with_both_places(tmp_path: Path) -> None:
    rows = [{"id": "a", "kind": "web"}, {"id": "b", "kind": "web"}, {"id": "a", "kind": "code"}]
    table = write_jsonl(tmp_path / "t.jsonl", rows)
    found = message(of(files=[table], id="id", **NAMED), tmp_path, batch(["a"]))
    assert "different values for the id 'a'" in found
    assert "row 0" in found
    assert "row 2" in found
    same = write_jsonl(tmp_path / "same.jsonl", [rows[0], rows[0]])
    assert labels(opened(of(files=[same], id="id", **NAMED), tmp_path), batch(["a"])) == ["web"]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"kind": "web", "id": "a"}, {"kind": "web"}], "row 1 has no id in 'id'"),
        ([{"kind": "webb", "id": "a"}], "'kind' holds 'webb', expected one of the categories"),
        ([{"kinds": "web", "id": "a"}], "no record has 'kind'; did you mean 'kinds'"),
    ],
)
def test_a_wrong_table_is_found_before_any_document_is_labelled(
    rows: list[dict[str, Any]], told: str, tmp_path: Path
) -> None:
    config = of(files=[write_jsonl(tmp_path / "t.jsonl", rows)], id="id", **NAMED)
    with pytest.raises(MadsError, match=told.replace("(", "\\(")):
        prepare(open_agent("mine", config), tmp_path / "prepared", {"c.jsonl": 9})


def test_wrong_sections_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(MadsError) as caught:
        open_agent("mine", of(files=[], attribute="x", field="y"))
    for told in (
        "agents.mine.categories",
        "agents.mine.files",
        "one of them",
        "edges or quantiles",
    ):
        assert told in str(caught.value)
    with pytest.raises(MadsError, match=r"agents.mine.files: .*does not exist"):
        open_agent("mine", of(files=[tmp_path / "no.jsonl"], **NAMED))


# Row by row


def dolma(folder: Path, wrong_id: bool = False) -> Path:
    row = 0
    for name, num_rows in (("0", 15), ("1", 25)):
        path = folder / "attributes" / "exp" / "cc" / f"{name}.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for _ in range(num_rows):
            spans = [[0, 10, row / 10], [10, 40, row / 10 + 0.4]] if row % 5 else []
            document = "other" if wrong_id and row == 20 else f"d{row}"
            lines.append(json.dumps({"id": document, "attributes": {"exp__t__len": spans}}))
            row += 1
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return folder / "attributes" / "exp"


DOLMA: dict[str, Any] = {"attribute": "exp__t__len", "edges": (2.0,), "categories": ("low", "high")}


def test_attributes_of_dolma_are_read_along_with_the_documents(tmp_path: Path) -> None:
    config = of(files=[dolma(tmp_path)], missing="unknown", **DOLMA)
    agent = opened(config, tmp_path, CORPUS)
    assert not isinstance(agent, QuantileBins)
    first, second = CORPUS
    rows = [0, 1, 2, 7, 24, 5, 6]  # forwards with gaps, as bad rows make them, and once backwards
    found = agent.label(batch([f"d{15 + row}" for row in rows], second, rows))
    want = [np.nan if (15 + r) % 5 == 0 else (15 + r) / 10 + 0.3 for r in rows]
    np.testing.assert_allclose(found.score_N, np.nan_to_num(want), rtol=1e-6)
    names = [agent.categories[i] for i in found.category_N]
    assert names == ["unknown" if np.isnan(x) else "high" if x >= 2 else "low" for x in want]
    assert labels(agent, batch(["d1", "d2"], first, [1, 2])) == ["low", "low"]


def test_attributes_of_another_order_are_refused_or_matched_by_ids(tmp_path: Path) -> None:
    files = dolma(tmp_path, wrong_id=True)
    documents = batch(["d20"], list(CORPUS)[1], [5])
    found = message(of(files=[files], **DOLMA), tmp_path, documents, files=CORPUS)
    assert "has the id 'other' in row 5, where the corpus has 'd20'" in found
    by_id = of(files=[files], missing="unknown", id="id", **DOLMA)
    assert labels(opened(by_id, tmp_path / "ids"), batch(["d21", "d20"])) == ["high", "unknown"]


def test_files_that_do_not_have_the_rows_of_the_corpus_are_all_told(tmp_path: Path) -> None:
    config = of(files=[dolma(tmp_path)], **DOLMA)
    files = {"in/documents/cc/0.jsonl.gz": 14, "in/documents/cc/2.jsonl": 3}
    found = message(config, tmp_path, batch(["d0"]), files=files)
    assert "0.jsonl.gz has 14 rows," in found
    assert "2.jsonl has none of the same name" in found
    twice = {"a/cc/0.jsonl": 15, "b/cc/0.jsonl": 15}
    assert "both fit" in message(config, tmp_path, batch(["d0"]), files=twice)


def test_one_file_goes_with_one_file_whatever_its_name(tmp_path: Path) -> None:
    table = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"kind": KINDS}), table, row_group_size=8)
    agent = opened(of(files=[table], **NAMED), tmp_path)
    assert labels(agent, batch([None] * 3, "c.jsonl", [30, 31, 39])) == [
        KINDS[i] for i in (30, 31, 39)
    ]


def test_fingerprints_follow_content_and_not_places(tables: Path, tmp_path: Path) -> None:
    def made(**keys: Any) -> str:
        return open_agent(
            "mine", of(**{"files": [tables], "id": "doc", **NAMED, **keys})
        ).fingerprint

    before = made()
    moved = tmp_path / "moved"
    tables.rename(moved)
    assert made(files=[moved]) == before
    assert made(files=[moved], missing="unknown") != before
    assert made(files=[moved], other="web") != before
    with (moved / "a.jsonl").open("a") as file:
        file.write('{"doc": "d77", "kind": "web"}\n')
    assert made(files=[moved]) != before


@pytest.mark.parametrize(
    ("spans", "score"),
    [
        ([[0, 10, 0.5], [10, 40, 0.9]], 0.8),  # (10 * 0.5 + 30 * 0.9) / 40
        ([[0, 0, 1], [0, 0, 0]], 0.5),
        ([], np.nan),
        (None, np.nan),
        ([[0, 1]], None),
        ([[2, 1, 0.5]], None),
        ([[0, 1, float("inf")]], None),
        ("x", None),
    ],
)
def test_the_score_of_spans(spans: object, score: float | None) -> None:
    found = span_score(spans)
    if found is None or score is None:
        assert found is score
    else:
        np.testing.assert_allclose(found, score, rtol=1e-12)
