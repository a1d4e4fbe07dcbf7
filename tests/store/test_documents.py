"""The table of documents says what became of every row, and of which shard it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mads.errors import DataError
from mads.sealed import Seal
from mads.store.documents import (
    DOCUMENTS_SCHEMA,
    Documents,
    read_documents,
    read_documents_header,
    selectable,
    status_codes,
    write_documents,
)
from mads.types import Status, doc_id

SUMS = Seal(8, "a" * 64)
STATUSES = [Status.OK, Status.EMPTY, Status.OK, Status.TOO_LONG]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    documents = Documents(
        np.array([5, 0, 7, 0], np.uint32),
        np.array([20, 1, 30, 2**33], np.int64),
        np.array([1, 2, 3, 2**63], np.uint64),
        np.array(status_codes(STATUSES), np.int8),
    )
    write_documents(tmp_path / "d.parquet", 2, "shard", SUMS, documents)
    return tmp_path / "d.parquet"


def test_a_table_survives_the_round_trip(path: Path) -> None:
    found = read_documents(path, 2, 4)
    assert found.num_tokens_N.tolist() == [5, 0, 7, 0]
    assert found.num_bytes_N.tolist() == [20, 1, 30, 2**32 - 1]  # as much as the column holds
    assert found.content_hash_N.tolist() == [1, 2, 3, 2**63]
    assert [found.status(row) for row in range(4)] == STATUSES
    assert found.is_ok().tolist() == [True, False, True, False]
    is_ok, tokens = selectable(path)
    assert (is_ok.tolist(), tokens.tolist()) == ([True, False, True, False], [5, 0, 7, 0])
    table = pq.read_table(path)
    assert table.schema.remove_metadata().names == DOCUMENTS_SCHEMA.names
    assert table["doc"].to_pylist() == [doc_id(2, row) for row in range(4)]
    assert table["status"].to_pylist() == [status.value for status in STATUSES]


def test_its_header_adds_it_up(path: Path) -> None:
    header = read_documents_header(path)
    assert (header.shard, header.token_sums) == ("shard", SUMS)
    assert (header.tokens, header.text_bytes) == (12, 51 + 2**33)
    assert header.statuses == {"ok": 2, "empty": 1, "no_text": 0, "undecodable": 0, "too_long": 1}


def test_a_table_of_another_shard_is_refused(path: Path) -> None:
    for shard, rows in ((3, 4), (2, 5)):
        message = rf"d\.parquet does not list the {rows} documents of its shard\. Delete it"
        with pytest.raises(DataError, match=message):
            read_documents(path, shard, rows)
