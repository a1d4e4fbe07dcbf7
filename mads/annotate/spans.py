"""How the shards that are left to do are shared out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from mads.annotate.job import Span
from mads.corpus.readers import seekable
from mads.store.spec import StoreSpec

SPANS_PER_WORKER = 4  # so that no worker waits long for the last one
LEAST_PART_BYTES = 8 * 1024 * 1024  # of text; a part is read some way beyond its end


def make_spans(spec: StoreSpec, todo: Sequence[int], workers: int) -> list[Span]:
    """Cut the shards to do into spans, the largest first.

    The shards of one large file follow each other in a span, since they are read in one pass.
    Such a file is shared by several workers only where its rows are more than one worker's part
    of all; where it can be opened anywhere (it is not compressed) it is cut more finely. A
    compressed one has to be decompressed up to where a part begins.
    """
    total = sum(spec.shards[shard].num_rows for shard in todo)
    spans: list[Span] = []
    for group in _by_file(spec, todo):
        rows = sum(spec.shards[shard].num_rows for shard in group)
        file = spec.files[spec.shards[group[0]].segments[0].file]
        share = rows * workers / max(total, 1)
        parts = share
        if seekable(file.path):
            text_bytes = file.text_bytes * rows / max(file.num_rows, 1)
            parts = min(share * SPANS_PER_WORKER, text_bytes / LEAST_PART_BYTES)
        spans += _cut(group, max(round(parts), 1))
    spans.sort(key=lambda span: -sum(spec.shards[shard].num_rows for shard in span))
    return spans


def _by_file(spec: StoreSpec, todo: Sequence[int]) -> list[list[int]]:
    """Group consecutive shards of one file."""
    groups: list[list[int]] = []
    for shard in todo:
        last = groups[-1][-1] if groups else -2
        goes_on = (
            last == shard - 1
            and spec.shards[last].segments[-1].file == spec.shards[shard].segments[0].file
        )
        if goes_on:
            groups[-1].append(shard)
        else:
            groups.append([shard])
    return groups


def _cut(group: Sequence[int], parts: int) -> list[Span]:
    parts = min(parts, len(group))
    bounds = [len(group) * i // parts for i in range(parts + 1)]
    return [tuple(group[a:b]) for a, b in pairwise(bounds)]
