"""Shards: cut from large files, joined from small ones, known by their content alone."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mads.config import CorpusConfig, TokenizerConfig
from mads.corpus.files import CorpusFile
from mads.store.spec import Segment, StoreSpec, make_shards


def file(name: str, rows: int, text_bytes: int = 100) -> CorpusFile:
    return CorpusFile(name, 1, rows, text_bytes, f"sha of {name}", tuple(range(0, rows * 9, 90)))


def test_a_large_file_is_cut_and_small_ones_are_joined() -> None:
    files = [file("a", 25), file("b", 3), file("c", 4), file("d", 4), file("e", 0), file("f", 11)]
    shards = make_shards(files, 0, CorpusConfig(shard_docs=10))
    assert [shard.segments for shard in shards] == [
        (Segment(0, 0, 10, 0),),
        (Segment(0, 10, 10, 90),),
        (Segment(0, 20, 5, 180),),
        (Segment(1, 0, 3), Segment(2, 0, 4)),
        (Segment(3, 0, 4),),
        (Segment(5, 0, 10, 0),),
        (Segment(5, 10, 1, 90),),
    ]


def test_text_bounds_what_is_joined_too() -> None:
    files = [file(name, 1, text_bytes=40) for name in "abcde"]
    shards = make_shards(files, 0, CorpusConfig(shard_bytes=100))
    assert [len(shard.segments) for shard in shards] == [2, 2, 1]


def test_a_shard_is_known_by_content_and_reading_alone() -> None:
    config = CorpusConfig(shard_docs=10)
    (one,) = make_shards([file("a", 5)], 0, config)
    (moved,) = make_shards([replace(file("a", 5), path="elsewhere")], 0, config)
    (later,) = make_shards([file("x", 3), file("a", 5)], 1, config)
    assert one.fingerprint == moved.fingerprint == later.fingerprint
    (other,) = make_shards([file("b", 5)], 0, config)
    (fewer,) = make_shards([file("a", 5)], 0, CorpusConfig(shard_docs=10, max_doc_bytes=7))
    assert len({one.fingerprint, other.fingerprint, fewer.fingerprint}) == 3


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 50)), max_size=12),
    st.integers(1, 12),
    st.integers(0, 80),
)
def test_every_row_is_in_one_shard_in_order(
    sizes: list[tuple[int, int]], shard_docs: int, shard_bytes: int
) -> None:
    files = [
        CorpusFile(str(i), 1, rows, text, str(i), tuple(range(0, max(rows, 1), shard_docs)))
        for i, (rows, text) in enumerate(sizes)
    ]
    shards = make_shards(files, 0, CorpusConfig(shard_docs=shard_docs, shard_bytes=shard_bytes))
    found = [
        (segment.file, segment.first_row + i)
        for shard in shards
        for segment in shard.segments
        for i in range(segment.num_rows)
    ]
    assert found == [(i, row) for i, (rows, _) in enumerate(sizes) for row in range(rows)]
    assert all(0 < shard.num_rows <= shard_docs for shard in shards)


def test_a_segment_that_was_moved_within_its_file_is_a_flaw() -> None:
    files = (file("a", 25), file("b", 25))
    config = CorpusConfig(shard_docs=10)
    shards = make_shards(files, 0, config)
    spec = StoreSpec(
        "/", files, tuple(shards), "text", config.max_doc_bytes, TokenizerConfig(), {}, 0
    )
    assert spec.flaw() == ""
    for segment in (Segment(0, 5, 10), Segment(0, 10, 9), Segment(1, 10, 10)):
        moved = (shards[0], replace(shards[1], segments=(segment,)), *shards[2:])
        found = replace(spec, shards=moved).flaw()
        assert found.startswith("spec.shards[1].fingerprint: found ")
        assert shards[1].fingerprint[:16] in found
    assert replace(spec, text_field="body").flaw().startswith("spec.shards[0].fingerprint: found ")
