"""What is wrong with a corpus is told before long work, with the files and fields there are."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from annotate.test_annotate import run
from command import mads, write_console
from toys import Document, MakeRecipe, write_jsonl

from mads.corpus.look import HEAD_ROWS
from mads.errors import DataError, UsageError
from mads.store.store import Store

AGENT = {"backend": "column", "field": "meta.kind", "categories": ["a", "b"]}
ROWS: list[Document] = [
    {"text": f"the river {i}", "key": {"n": i}, "meta": {"kind": "ab"[i % 2]}} for i in range(60)
]
ATTRIBUTES: list[Document] = [{"id": f"d{i}", "attributes": {"quality": 0.5}} for i in range(60)]


@pytest.fixture
def recipe(toy_recipe: MakeRecipe) -> Any:
    def build(**corpus: Any) -> Any:
        return toy_recipe(agents={"kind": AGENT}, corpus={"executor": "inline", **corpus})

    return build


def test_files_without_a_text_are_refused_by_name(tmp_path: Path, recipe: Any) -> None:
    write_jsonl(tmp_path / "corpus" / "documents.jsonl", ROWS)
    write_jsonl(tmp_path / "corpus" / "attributes.jsonl", ATTRIBUTES)
    (tmp_path / "corpus" / "noise.jsonl.gz").write_bytes(gzip.compress(b"\xff\n\xfe\n"))
    with pytest.raises(DataError) as error:
        run([tmp_path / "corpus"], tmp_path / "store", recipe())
    text = str(error.value)
    assert text.startswith("2 of 3 corpus files hold no documents:\n")
    assert (
        "attributes.jsonl holds no documents: none of its first 60 rows has a text in 'text'; its "
        "fields are id, attributes.quality\n"
    ) in text
    assert "noise.jsonl.gz holds no documents: none of its first 2 rows can be read" in text
    assert "skip such files with --set corpus.files_without_text=skip." in text
    assert not (tmp_path / "store" / "tokens").exists()
    skip = recipe(files_without_text="skip")
    result = run([tmp_path / "corpus"], tmp_path / "store", skip)
    assert (result.rows, len(result.skipped)) == (60, 2)
    assert [file.path for file in Store(tmp_path / "store").spec.files] == ["documents.jsonl"]
    again = run([tmp_path / "corpus"], tmp_path / "store", skip)
    assert (again.generation, again.new_index, len(again.skipped)) == (1, False, 2)


def test_a_field_that_no_record_has_is_refused_with_those_there_are(
    tmp_path: Path, toy_recipe: MakeRecipe, recipe: Any
) -> None:
    corpus = write_jsonl(tmp_path / "c.jsonl", ROWS)
    agents = {"kind": {**AGENT, "field": "meta.knid", "other": "a"}}
    with pytest.raises(UsageError) as error:
        run([corpus], tmp_path / "store", toy_recipe(agents=agents, corpus={"id_field": "key.m"}))
    text = str(error.value)
    assert "  - agent 'kind': no record has 'meta.knid'; did you mean 'meta.kind'?\n" in text
    assert "  - corpus.id_field: no record has 'key.m'; did you mean 'key.n'?\n" in text
    assert text.endswith("The fields are text, key.n, meta.kind.")
    message = r"corpus\.text_field: no record has 'body'\nThe fields are text, key\.n, meta\.kind"
    with pytest.raises(UsageError, match=message):
        run([corpus], tmp_path / "store", recipe(text_field="body"))


def test_a_field_of_a_later_row_or_file_is_found(tmp_path: Path, toy_recipe: MakeRecipe) -> None:
    agents = {"kind": {**AGENT, "other": "a"}}
    plain = [{"text": f"no label {i}"} for i in range(HEAD_ROWS - 1)]
    write_jsonl(tmp_path / "corpus" / "a.jsonl", plain)
    write_jsonl(tmp_path / "corpus" / "b.jsonl", [*plain[:30], *ROWS])
    found = run([tmp_path / "corpus"], tmp_path / "store", toy_recipe(agents=agents))
    assert found.rows == HEAD_ROWS - 1 + 90


def test_a_new_agent_is_checked_too(tmp_path: Path, toy_recipe: MakeRecipe) -> None:
    corpus = write_jsonl(tmp_path / "c.jsonl", ROWS)
    run([corpus], tmp_path / "store", toy_recipe(agents={"kind": AGENT}))
    more = {"kind": AGENT, "more": {**AGENT, "field": "more"}}
    with pytest.raises(UsageError, match="agent 'more': no record has 'more'"):
        run([corpus], tmp_path / "store", toy_recipe(agents=more))
    assert Store(tmp_path / "store").generation == 1


def test_too_many_bad_rows_fail_before_work_where_that_is_certain(
    tmp_path: Path, recipe: Any
) -> None:
    corpus = tmp_path / "c.jsonl"
    write_jsonl(corpus, ROWS)
    corpus.write_text(corpus.read_text() + "not json\n" + '{"text": ""}\n')
    with pytest.raises(DataError) as error:
        run([corpus], tmp_path / "store", recipe(max_bad=0.02))
    assert str(error.value).startswith("2 of the first rows of 1 files are bad (no text, empty,")
    assert "which is more than --max-bad 0.02 allows of 62 rows. Nothing was made." in str(
        error.value
    )
    assert run([corpus], tmp_path / "store", recipe(max_bad=0.04)).rows == 62


def test_too_many_bad_rows_fail_at_the_end_and_the_store_is_kept(
    tmp_path: Path, recipe: Any
) -> None:
    corpus = tmp_path / "c.jsonl"
    write_jsonl(corpus, ROWS * 17)  # more than are looked at
    corpus.write_text(corpus.read_text() + "not json\n" * 30)
    message = (
        r"30 of 1,050 rows \(2\.86%\) are bad \(30 undecodable\), more than --max-bad 0\.01 "
        r"allows\. .*store is complete and was kept\."
    )
    for _ in range(2):  # also by the call that finds it complete
        with pytest.raises(DataError, match=message):
            run([corpus], tmp_path / "store", recipe(max_bad=0.01))
    assert Store(tmp_path / "store").facts.documents.rows == 1050
    assert run([corpus], tmp_path / "store", recipe()).generation == 1


def test_max_bad_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(tmp_path / "c.jsonl", [*ROWS, {"text": None}])
    (tmp_path / "r.toml").write_text(
        '[corpus]\nexecutor = "inline"\n[tokenizer]\nvocab_size = 300\n'
        '[agents.kind]\nbackend = "column"\nfield = "meta.kind"\ncategories = ["a", "b"]\n'
    )
    given = [tmp_path / "c.jsonl", "--out", tmp_path / "s", "--recipe", tmp_path / "r.toml"]
    code, _, words = mads(capsys, "annotate", *given, "--max-bad", "1%")
    assert code == 1
    assert "more than --max-bad 0.01 allows" in words
    code, _, words = mads(capsys, "annotate", *given, "--max-bad", "much")
    assert code == 2
    assert "expected 0 to 1, or 0% to 100%." in words


# The user's own ids

WITH_IDS: list[Document] = [
    {**row, "id": value}
    for row, value in zip(ROWS, ["x", 7, "x", None, True, "", *range(100, 154)], strict=True)
]


def test_ids_are_kept_counted_and_come_back(
    tmp_path: Path, recipe: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_jsonl(tmp_path / "corpus" / "c.jsonl", WITH_IDS)
    result = run([corpus], tmp_path / "store", recipe(id_field="id", shard_docs=25))
    assert result.ids is not None
    assert (result.ids.missing, result.ids.repeated) == (3, 1)  # null, true, ""; the second "x"
    store = Store(tmp_path / "store")
    assert store.spec.id_field == "id"
    docs = [store.document_at(0, row) for row in (59, 0, 1, 3, 30)]
    assert store.ids(np.array(docs, np.uint64)) == ["153", "x", "7", None, "124"]
    assert store.documents(0).ids is not None
    write_console(tmp_path / "console.json", {"kind": ["a", "b"]}, "a")
    picked = tmp_path / "picked"
    mads(
        *(capsys, "select"),
        *("--store", store.dir.root, "--console", tmp_path / "console.json"),
        *("--docs", "20", "--out", picked),
    )
    table = pq.read_table(picked / "selection.parquet")
    assert table["id"].to_pylist() == store.ids(table["doc"].to_numpy())
    part = tmp_path / "part"
    mads(
        *(capsys, "part"),
        *("--store", store.dir.root, "--plan", picked / "plan.json"),
        *("--shard", "0/2", "--out", part),
    )
    table = pq.read_table(part / "selection.parquet")
    assert table["id"].to_pylist() == store.ids(table["doc"].to_numpy())


def test_ids_stay_when_a_store_grows_and_their_field_too(tmp_path: Path, recipe: Any) -> None:
    corpus = tmp_path / "corpus"
    write_jsonl(corpus / "a.jsonl", WITH_IDS)
    run([corpus], tmp_path / "store", recipe(id_field="id"))
    write_jsonl(corpus / "b.jsonl", WITH_IDS[:2])
    message = r"was made with another corpus\.id_field: found 'id', now 'key\.n'"
    with pytest.raises(DataError, match=message):
        run([corpus], tmp_path / "store", recipe(id_field="key.n"))
    with pytest.raises(DataError, match=r"corpus\.id_field: found 'id', now '-'"):
        run([corpus], tmp_path / "store", recipe(id_field="-"))
    result = run([corpus], tmp_path / "store", recipe())  # the store's own
    assert result.ids is not None
    assert (result.generation, result.ids.missing, result.ids.repeated) == (2, 3, 3)
    run([corpus], tmp_path / "bare", recipe())
    assert Store(tmp_path / "bare").documents(0).ids is None
    with pytest.raises(DataError, match=r"corpus\.id_field: found '-', now 'id'"):
        run([corpus], tmp_path / "bare", recipe(id_field="id"))


def test_a_nested_id_and_that_of_a_layout(tmp_path: Path, recipe: Any) -> None:
    corpus = write_jsonl(tmp_path / "a.jsonl", ROWS)
    run([corpus], tmp_path / "nested", recipe(id_field="key.n"))
    ids = Store(tmp_path / "nested").documents(0).ids
    assert ids == [str(i) for i in range(60)]
    dolma = [{**row, "id": f"d{i}", "source": "s", "added": "2024"} for i, row in enumerate(ROWS)]
    corpus = write_jsonl(tmp_path / "dolma" / "part.json.gz", [])
    corpus.write_bytes(gzip.compress("".join(json.dumps(d) + "\n" for d in dolma).encode()))
    result = run([corpus], tmp_path / "store", recipe())
    assert (result.layout, result.id_field) == ("Dolma or OLMo-mix", "id")
    assert Store(tmp_path / "store").documents(0).ids == [f"d{i}" for i in range(60)]
    result = run([corpus], tmp_path / "other", recipe(id_field="key.n"))
    assert (result.layout, result.id_field) == ("Dolma or OLMo-mix", "key.n")
    result = run([corpus], tmp_path / "none", recipe(id_field="-"))
    assert (result.id_field, result.ids) == ("", None)
