"""Layouts are known by the fields of a record as those corpora have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mads.corpus.layouts import LAYOUTS
from mads.corpus.look import layout_of

RECORDS: dict[str, dict[str, Any]] = {
    "FineWeb": {
        "text": "a page",
        "id": "<urn:uuid:39147604-bfbe-4ed5-b19c-54105f8ae8a7>",
        "dump": "CC-MAIN-2013-20",
        "url": "http://example.org/",
        "date": "2013-05-18T05:48:59Z",
        "file_path": "s3://commoncrawl/crawl-data/CC-MAIN-2013-20/x.warc.gz",
        "language": "en",
        "language_score": 0.8,
        "token_count": 717,
    },
    "SlimPajama": {"text": "a page", "meta": {"redpajama_set_name": "RedPajamaC4"}},
    "DCLM": {
        "bff_contained_ngram_count_before_dedupe": 3,
        "language_id_whole_page_fasttext": {"en": 0.9},
        "metadata": {"WARC-Record-ID": "<urn:uuid:1>", "WARC-Type": "response"},
        "previous_word_count": 100,
        "text": "a page",
        "url": "http://example.org/",
        "warcinfo": "robots: classic",
        "fasttext_openhermes_reddit_eli5_vs_rw_v2_bigram_200k_train_prob": 0.1,
    },
    "Dolma or OLMo-mix": {
        "id": "a1",
        "text": "a page",
        "source": "common-crawl",
        "added": "2023-04-11T09:57:03.044571+00:00",
        "created": "2020-01-17T12:48:23Z",
        "metadata": {"url": "http://example.org/"},
    },
}
IDS = {"FineWeb": "id", "SlimPajama": "", "DCLM": "metadata.WARC-Record-ID"}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_layout_is_recognised_by_its_records(tmp_path: Path, layout: Any) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(RECORDS[layout.name]) + "\n")
    assert layout_of([path]) == layout
    assert layout.text_field == "text"
    assert layout.id_field == IDS.get(layout.name, "id")


def test_other_records_have_no_layout(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "id": "b"}\n')
    assert layout_of([path]) is None
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")  # which the scan tells
    assert layout_of([tmp_path / "cut.parquet", path]) is None
