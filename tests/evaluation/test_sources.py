"""Files by name, the Hub, what cannot be read, and few-shot examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from evaluation.quiz import RECORDS, records, write_data
from toys import write_jsonl

from mads.errors import DataError
from mads.evaluation.choices import EVALUATORS
from mads.evaluation.sources import Examples, Source, local_splits, open_source

SHARED = Path(__file__).parents[3] / "shared" / "data" / "evaluation"


def source_of(task: str, folder: Path | None, shots: int = 1) -> Source:
    found = open_source(task, EVALUATORS[task], folder, shots)
    assert isinstance(found, Source)
    return found


@pytest.mark.parametrize(
    ("task", "name", "split"),
    [
        ("arc_easy", "arc_easy.test.jsonl.gz", "test"),
        ("arc_easy", "arc-easy_val.jsonl", "validation"),
        ("arc_easy", "ai2_arc/ARC-Easy/test-00000-of-00001.parquet", "test"),
        ("mmlu", "mmlu/all/dev/0000.parquet", "dev"),
        ("winogrande", "winogrande/winogrande_xl/validation-0.parquet", "validation"),
        ("piqa", "piqa/data/valid.jsonl.zst", "validation"),
        ("race", "race/middle/test.jsonl", None),
        ("mmlu", "mmlu_pro.test.jsonl", None),
        ("arc_easy", "arc_easy.test.csv", None),
        ("sciq", "my_sciq.test.jsonl", None),
    ],
)
def test_files_by_name(tmp_path: Path, task: str, name: str, split: str | None) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert local_splits(tmp_path, EVALUATORS[task]) == ({split: [path]} if split else {})


@pytest.mark.parametrize("task", EVALUATORS)
def test_each_task_from_its_files(tmp_path: Path, task: str) -> None:
    """What is evaluated is the first of its splits; examples are of another one."""
    split = EVALUATORS[task].splits[0]
    other = EVALUATORS[task].examples[0]
    path = write_data(tmp_path, task, split, range(4))
    assert source_of(task, tmp_path).examples is None
    examples = write_data(tmp_path, task, other, range(10, 13))
    found = source_of(task, tmp_path)
    assert (found.evaluated.where, len(found.evaluated.items)) == (path.name, 4)
    assert found.examples is not None
    assert (found.examples.where, len(found.examples.items)) == (examples.name, 3)
    assert source_of(task, tmp_path, shots=0).examples is None  # it is not even read


def test_a_split_in_several_files(tmp_path: Path) -> None:
    for part in (0, 1):
        rows = pa.Table.from_pylist(records("piqa", range(2 * part, 2 * part + 2)))
        (tmp_path / "piqa").mkdir(exist_ok=True)
        pq.write_table(rows, tmp_path / "piqa" / f"validation-{part}.parquet")
    found = source_of("piqa", tmp_path).evaluated
    assert found.where == "validation-0.parquet, validation-1.parquet"
    assert [item.contexts[0] for item in found.items] == [
        f"Question: Peel {i} figs.\nAnswer:" for i in range(4)
    ]


def test_examples_with_another_prompt_are_not_used(tmp_path: Path) -> None:
    """A file with its own prompts, beside one in the columns, whose prompt has no "Question:"."""
    own = [{"query": f"Question: {i}?\nAnswer:", "choices": ["a", "b"], "gold": 0} for i in "123"]
    write_jsonl(tmp_path / "openbookqa.test.jsonl", own)
    write_data(tmp_path, "openbookqa", "validation", range(4))
    assert source_of("openbookqa", tmp_path).examples is None


def test_rows_without_a_right_answer_are_counted(tmp_path: Path) -> None:
    good, bad = RECORDS["boolq"](0), {**RECORDS["boolq"](1), "label": -1}
    write_jsonl(tmp_path / "boolq.validation.jsonl", [good, bad, good])
    found = source_of("boolq", tmp_path).evaluated
    assert (len(found.items), found.left_out) == (2, 1)
    write_jsonl(tmp_path / "boolq.validation.jsonl", [bad])
    with pytest.raises(DataError, match=r"boolq\.validation\.jsonl holds no item with a right ans"):
        source_of("boolq", tmp_path)


@pytest.mark.parametrize(
    ("task", "record"),
    [
        ("boolq", {"question": "is it", "answer": True}),
        ("winogrande", {**RECORDS["winogrande"](0), "sentence": "no blank"}),
        ("race", {"article": "A.", "problems": "print('x')"}),
        ("race", {"article": "A.", "problems": "[" * 200_000}),
        ("race", {"article": "A.", "problems": "-" * 200_000 + "1"}),
        ("arc_easy", {**RECORDS["arc_easy"](0), "answerKey": "Z"}),
        ("mmlu", {**RECORDS["mmlu"](0), "answer": None}),
        ("piqa", {**RECORDS["piqa"](0), "goal": 3}),
        ("hellaswag", {**RECORDS["hellaswag"](0), "label": ""}),
    ],
)
def test_a_record_of_another_kind_is_named(
    tmp_path: Path, task: str, record: dict[str, Any]
) -> None:
    split = EVALUATORS[task].splits[0]
    write_jsonl(tmp_path / f"{task}.{split}.jsonl", [RECORDS[task](0), record])
    message = rf"task '{task}': .*{task}\.{split}\.jsonl row 1 is none of its records"
    with pytest.raises(DataError, match=message) as caught:
        source_of(task, tmp_path)
    assert "Give the columns of the Hugging Face data set" in str(caught.value)


def test_missing_data_is_named(tmp_path: Path) -> None:
    found = open_source("piqa", EVALUATORS["piqa"], tmp_path, 0)
    assert found == (
        f"{tmp_path} has no file with its split validation or dev (such as piqa.validation.jsonl)"
    )


def test_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("test", "validation"):
        path = tmp_path / "ARC-Easy" / split / "0000.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(records("arc_easy", range(3))), path)
    seen: list[Any] = []

    def fetch(repo: str, **options: Any) -> str:
        seen.append((repo, options["revision"], options["allow_patterns"][0]))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert len(source_of("arc_easy", None).evaluated.items) == 3
    assert seen == [("allenai/ai2_arc", "refs/convert/parquet", "ARC-Easy/test/*.parquet")]


def test_the_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(repo: str, **options: Any) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    found = open_source("piqa", EVALUATORS["piqa"], None, 0)
    assert found == "the data set 'baber/piqa' cannot be fetched: no route to host"
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: "/nowhere")
    found = open_source("piqa", EVALUATORS["piqa"], None, 0)
    assert found == "the data set 'baber/piqa' has no file with its split validation or dev"


def test_examples_are_the_same_each_time_and_nested(tmp_path: Path) -> None:
    write_data(tmp_path, "arc_easy", "test", range(5))
    write_data(tmp_path, "arc_easy", "validation", range(20, 40))
    source = source_of("arc_easy", tmp_path)
    one, two, other = (Examples("arc_easy", source, seed, 5) for seed in (0, 0, 1))
    items = list(enumerate(source.evaluated.items))
    five = [one.draw(row, item, 5) for row, item in items]
    assert five == [two.draw(row, item, 5) for row, item in items]
    assert five != [other.draw(row, item, 5) for row, item in items]
    assert [one.draw(row, item, 3) for row, item in items] == [drawn[:3] for drawn in five]
    assert five[0] != five[1]
    assert source.examples is not None
    assert all(len({e.contexts for e in drawn}) == 5 for drawn in five)
    assert all(example in source.examples.items for drawn in five for example in drawn)


def test_an_item_is_never_shown_to_itself(tmp_path: Path) -> None:
    """Nor is its question when it stands in the file twice, or in the file of examples too."""
    write_data(tmp_path, "arc_easy", "test", [0, 1, 2, 3, 0])
    for _ in range(2):
        source = source_of("arc_easy", tmp_path)
        for seed in range(10):
            examples = Examples("arc_easy", source, seed, 3)
            for row, item in enumerate(source.evaluated.items):
                drawn = examples.draw(row, item, 3)
                assert len(drawn) == 3
                assert item.contexts not in [example.contexts for example in drawn]
        write_data(tmp_path, "arc_easy", "validation", range(4))


def test_examples_come_from_the_items_group_first(tmp_path: Path) -> None:
    rows = [{**RECORDS["mmlu"](i), "subject": "ab"[i % 2]} for i in range(8)]
    write_jsonl(tmp_path / "mmlu.test.jsonl", rows)
    source = source_of("mmlu", tmp_path)
    examples = Examples("mmlu", source, 0, 5)
    for row, item in enumerate(source.evaluated.items):
        groups = [example.group for example in examples.draw(row, item, 5)]
        assert groups[:3] == [item.group] * 3
        assert item.group not in groups[3:]


def test_the_prompt_of_examples(tmp_path: Path) -> None:
    write_data(tmp_path, "mmlu", "test", [0])
    write_data(tmp_path, "mmlu", "dev", [1, 2])
    source = source_of("mmlu", tmp_path)
    examples = Examples("mmlu", source, 0, 2)
    item = source.evaluated.items[0]
    one, two = examples.draw(0, item, 2)
    prompts = examples.prompts(0, item, 2)
    about = "The following are multiple choice questions (with answers) about high school fruit."
    assert prompts[0] == f"{about}\n\n{one.solved}\n\n{two.solved}\n\n{item.contexts[0]}"
    assert len(prompts) == 4
    assert examples.prompts(0, item, 0)[0] == f"{about}\n\n{item.contexts[0]}"


def test_too_few_examples(tmp_path: Path) -> None:
    write_data(tmp_path, "piqa", "validation", range(3))
    with pytest.raises(DataError, match="3 few-shot examples are needed for each item, and there"):
        Examples("piqa", source_of("piqa", tmp_path), 0, 3)


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data is not here")
@pytest.mark.parametrize(
    ("task", "count", "examples"),
    [
        ("arc_easy", 2376, "arc_easy.validation.jsonl.gz"),
        ("arc_challenge", 1172, "arc_challenge.validation.jsonl.gz"),
        ("mathqa", 2983, None),
        ("mmlu", 1531, "mmlu.dev.jsonl.gz"),
        ("openbookqa", 500, None),
        ("siqa", 1954, None),
        ("winogrande", 1267, None),
        ("commonsenseqa", 1221, None),
        ("boolq", 3270, None),
    ],
)
def test_the_papers_tasks(task: str, count: int, examples: str | None) -> None:
    found = source_of(task, SHARED)
    assert len(found.evaluated.items) + found.evaluated.left_out == count
    assert found.evaluated.left_out == 0
    assert (found.examples.where if found.examples else None) == examples
    Examples(task, found, 0, 5)
