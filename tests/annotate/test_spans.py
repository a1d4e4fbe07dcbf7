"""Shards are shared out so that a file is read once, unless it is most of the work."""

from __future__ import annotations

from mads.annotate.spans import LEAST_PART_BYTES, make_spans
from mads.config import CorpusConfig, TokenizerConfig
from mads.corpus.files import CorpusFile
from mads.store.spec import StoreSpec, make_shards


def spec_of(*files: tuple[str, int], text_bytes: int = 10**9) -> StoreSpec:
    """Return a store of files (name, rows) in shards of 10 rows."""
    found = [
        CorpusFile(name, 1, rows, text_bytes, name, tuple(range(0, rows, 10)))
        for name, rows in files
    ]
    shards = tuple(make_shards(found, 0, CorpusConfig(shard_docs=10)))
    return StoreSpec("/", tuple(found), shards, "text", 1, TokenizerConfig(), {}, 0)


def test_a_compressed_file_is_one_span_unless_it_is_more_than_a_workers_part() -> None:
    many = spec_of(*((f"{i}.jsonl.gz", 40) for i in range(8)))
    assert sorted(map(tuple, make_spans(many, range(32), 2))) == [
        tuple(range(4 * i, 4 * i + 4)) for i in range(8)
    ]
    one = spec_of(("large.jsonl.zst", 400), ("small.jsonl.zst", 10))
    assert make_spans(one, range(41), 1)[0] == tuple(range(40))
    assert make_spans(one, range(41), 2) == [tuple(range(20)), tuple(range(20, 40)), (40,)]


def test_a_file_that_can_be_opened_anywhere_is_cut_finely() -> None:
    spans = make_spans(spec_of(("large.jsonl", 400)), range(40), 2)
    assert len(spans) == 8
    assert sorted(shard for span in spans for shard in span) == list(range(40))
    assert all(list(span) == list(range(span[0], span[-1] + 1)) for span in spans)


def test_what_is_done_already_is_in_no_span() -> None:
    spans = make_spans(spec_of(("a.jsonl.gz", 50), ("b.jsonl.gz", 50)), [1, 2, 4, 5, 9], 1)
    assert sorted(map(tuple, spans)) == [(1, 2), (4,), (5,), (9,)]


def test_a_small_file_is_not_cut_finely() -> None:
    small = spec_of(("small.jsonl", 400), text_bytes=3 * LEAST_PART_BYTES)
    assert len(make_spans(small, range(40), 8)) == 3
