"""Reading reference tasks: formats, subsets, truncation, errors."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mads.config import TaskConfig
from mads.errors import DataError, UsageError
from mads.tasks.formats import FORMATS, load_examples
from mads.types import ReferenceExample

REPOSITORY = Path(__file__).parents[2]
REFERENCE = REPOSITORY.parent / "shared" / "data" / "reference"

ITEMS: dict[str, tuple[dict[str, Any], ReferenceExample]] = {
    "cloze": ({"context": "a b", "continuation": " c"}, ReferenceExample("a b", " c")),
    "lambada": ({"text": "he said hello\n"}, ReferenceExample("he said", " hello")),
    "squad": (
        {"context": "It is red.", "question": "What colour? ", "answers": {"text": ["red", "Red"]}},
        ReferenceExample("It is red.\nQuestion: What colour?\nAnswer:", " red"),
    ),
    "jeopardy": (
        {"context": "WORDS: A clue", "continuation": "an answer", "category": "x"},
        ReferenceExample("WORDS: A clue\nAnswer:", " an answer"),
    ),
    "choices": (
        {"query": "Question: Why?\nAnswer:", "choices": ["no", "yes"], "gold": 1},
        ReferenceExample("Question: Why?\nAnswer:", " yes"),
    ),
    "text": ({"text": "All of it.\n"}, ReferenceExample("", "All of it.\n")),
}


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_each_format(name: str, tmp_path: Path) -> None:
    item, expected = ITEMS[name]
    path = tmp_path / "task.jsonl"
    path.write_text(json.dumps(item) + "\n")
    assert load_examples("t", TaskConfig(format=name, path=str(path)), 0) == [expected]


def test_choices_in_the_columns_of_the_hub() -> None:
    item = {
        "question_stem": "Why?",
        "choices": {"text": ["no", "yes"], "label": ["A", "B"]},
        "answerKey": "B",
    }
    assert FORMATS["choices"](item) == ReferenceExample("Question: Why?\nAnswer:", " yes")


def test_a_negative_gold_is_no_choice(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"query": "Why?", "choices": ["no", "yes"], "gold": -1}))
    with pytest.raises(DataError, match=r"row 0 is not in the format 'choices'.*gold is -1"):
        load_examples("t", TaskConfig(format="choices", path=str(path)), 0)


def test_gzip_and_parquet_hold_the_same(tmp_path: Path) -> None:
    items = [{"context": f"c{i}", "continuation": f" d{i}"} for i in range(5)]
    with gzip.open(tmp_path / "t.jsonl.gz", "wt") as handle:
        handle.write("\n".join(json.dumps(item) for item in items))
    pq.write_table(pa.Table.from_pylist(items), tmp_path / "t.parquet")
    found = [
        load_examples("t", TaskConfig(path=str(tmp_path / name), num_examples=0), 0)
        for name in ("t.jsonl.gz", "t.parquet")
    ]
    assert len(found[0]) == 5
    assert found[0] == found[1]


def test_a_subset_is_seeded(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    items = [{"context": f"c{i}", "continuation": f" d{i}"} for i in range(50)]
    path.write_text("\n".join(json.dumps(item) for item in items))
    config = TaskConfig(path=str(path), num_examples=10)
    one, same, other = (load_examples("t", config, seed) for seed in (1, 1, 2))
    assert len(one) == 10
    assert one == same != other


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"context": "a"}',
            r"row 0 is not in the format 'cloze'.*continuation.*keys \['context'\]",
        ),
        (
            '{"context": "a", "continuation": "b"}\n{"context": "a", "continuation": 5}',
            r"row 1 is not in the format 'cloze' \(TypeError: continuation holds 5, expected a t",
        ),
        ('{"context": null, "continuation": "b"}', "row 0 .*context holds None, expected a text"),
        ("[1, 2]", "row 0 is not in the format 'cloze'"),
        ("{not json", "cannot be read"),
        ('{"context": "a", "continuation": " "}', "holds no item with a continuation"),
        ("", "holds no item with a continuation"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        load_examples("t", TaskConfig(path=str(path)), 0)


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("lambada", {"text": 5}),
    ("lambada", {"until_last": None, "last_word": "x"}),
    ("lambada", {"until_last": "a", "last_word": 1}),
    ("squad", {"context": None, "question": "q", "answers": {"text": ["a"]}}),
    ("squad", {"context": "c", "question": None, "answers": {"text": ["a"]}}),
    ("squad", {"context": "c", "question": "q", "answers": {"text": [1]}}),
    ("squad", {"context": "c", "question": "q", "answers": None}),
    ("jeopardy", {"context": [], "continuation": "x"}),
    ("jeopardy", {"context": "a", "continuation": None}),
    ("choices", {"query": None, "choices": ["a"], "gold": 0}),
    ("choices", {"query": "q", "choices": [None], "gold": 0}),
    ("choices", {"question": None, "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "A"}),
    ("choices", {"question": "q", "choices": {"text": [2], "label": ["A"]}, "answerKey": "A"}),
]


@pytest.mark.parametrize(("name", "item"), WRONG)
def test_a_field_that_is_no_text_is_named(tmp_path: Path, name: str, item: dict[str, Any]) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(item))
    config = TaskConfig(format=name, path=str(path))
    with pytest.raises(DataError, match=rf"task 't': .*row 0 is not in the format '{name}'.*Type"):
        load_examples("t", config, 0)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "task 't' has no path"),
        ("/nowhere/x.jsonl", "task 't': /nowhere/x.jsonl does not exist"),
    ],
)
def test_missing_files(path: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_examples("t", TaskConfig(path=path), 0)


def test_a_folder_is_no_task(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"task 't': .* is a folder\. Give the file"):
        load_examples("t", TaskConfig(path=str(tmp_path)), 0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "its JSON is nested too deeply"),
        ('{"context": ' + '{"a":' * 3000 + "1" + "}" * 3001, "its JSON is nested too deeply"),
        ('{"context": "a", "continuation": ' + "1" * 5000 + "}", "cannot be read: Exceeds"),
        ('{"context": "a", "continuation": ' + "1" * 4000 + "}", "row 0 is not in the format"),
    ],
)
def test_json_that_no_reader_can_hold_is_one_message(
    tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(line)
    with pytest.raises(DataError, match=message) as caught:
        load_examples("t", TaskConfig(path=str(path)), 0)
    assert len(str(caught.value)) < 500


def test_a_data_set_id_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "plain_text"
    folder.mkdir()
    pq.write_table(
        pa.Table.from_pylist([{"text": "one two"}]), folder / "validation-00000-of-00001.parquet"
    )
    seen: list[Any] = []

    def fetch(repo: str, **options: Any) -> str:
        seen.append((repo, options["repo_type"]))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    config = TaskConfig(format="lambada", path="cimec/lambada")
    assert load_examples("t", config, 0) == [ReferenceExample("one", " two")]
    assert seen == [("cimec/lambada", "dataset")]
    with pytest.raises(UsageError, match="has 0 files for the split 'test', expected 1"):
        load_examples("t", TaskConfig(path="cimec/lambada", split="test"), 0)


def test_a_data_set_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(repo: str, **options: Any) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with pytest.raises(UsageError, match="data set 'a/b' cannot be fetched: no route to host"):
        load_examples("t", TaskConfig(path="a/b"), 0)


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="shared/data is not here")
@pytest.mark.parametrize("name", ["lambada", "squad", "jeopardy"])
def test_the_papers_reference_tasks(name: str) -> None:
    path = REFERENCE / f"{name}_validation.parquet"
    config = TaskConfig(format=name, path=str(path), num_examples=20)
    found = load_examples(name, config, 0)
    assert len(found) == 20
    assert all(e.continuation.startswith(" ") and e.context.strip() for e in found)


def test_every_format_has_a_test() -> None:
    assert set(ITEMS) == set(FORMATS)
