"""The nouns that cross stages."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mads.types import NO_CATEGORY, ROW_BITS, Cells, DocumentBatch, Status, doc_id


def batch(*statuses: Status) -> DocumentBatch:
    n = range(len(statuses))
    return DocumentBatch(
        texts=[f"text {i}" if s is Status.OK else "" for i, s in zip(n, statuses, strict=True)],
        statuses=list(statuses),
        num_bytes=[10 + i for i in n],
        fields={"meta.source": [f"source {i}" for i in n], "score": list(n)},
    )


def test_a_documents_number_holds_shard_and_row() -> None:
    assert doc_id(0, 0) == 0
    assert doc_id(0, 7) == 7
    assert doc_id(1, 0) == 4_294_967_296
    assert doc_id(3, 5) == 12_884_901_893


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_documents_number_fits_and_gives_both_back(shard: int, row: int) -> None:
    number = doc_id(shard, row)
    assert int(np.uint64(number)) == number
    assert (number >> ROW_BITS, number & 2**ROW_BITS - 1) == (shard, row)


def test_only_ok_rows_are_kept_with_all_that_is_theirs() -> None:
    found = batch(Status.EMPTY, Status.OK, Status.TOO_LONG, Status.OK, Status.NO_TEXT).ok()
    assert len(found) == 2
    assert found.texts == ["text 1", "text 3"]
    assert found.statuses == [Status.OK, Status.OK]
    assert found.num_bytes == [11, 13]
    assert found.fields == {"meta.source": ["source 1", "source 3"], "score": [1, 3]}


def test_a_batch_that_is_all_ok_is_not_copied() -> None:
    whole = batch(Status.OK, Status.OK)
    assert whole.ok() is whole
    none = batch(Status.UNDECODABLE).ok()
    assert (len(none), none.fields) == (0, {"meta.source": [], "score": []})
    assert len(batch().ok()) == 0


def test_statuses_are_the_words_on_the_disk() -> None:
    assert [str(status) for status in Status] == [
        *("ok", "empty", "no_text", "undecodable", "too_long")
    ]


def test_cells_are_counted() -> None:
    columns = (np.array([4, 1]), np.array([40, 10]), np.array([0, 4]))
    cells = Cells(("kind",), {"kind": ("a", "b")}, np.array([[0], [1]], np.uint16), *columns)
    assert len(cells) == 2


def test_no_category_is_the_largest_that_a_memory_can_hold() -> None:
    assert np.iinfo(np.uint16).max == NO_CATEGORY
