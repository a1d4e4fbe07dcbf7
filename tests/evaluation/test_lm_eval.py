"""Our scores against those of lm-evaluation-harness, item for item, with its own task files.

It needs the extra: pip install "mads[eval]".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from evaluation.quiz import records, tiny_folder, write_data
from toys import write_jsonl

from mads.evaluation.choices import DELIMITER, EVALUATORS, Item
from mads.evaluation.scoring import Pair, Scorer, open_scorer
from mads.evaluation.sources import Examples, Source, open_source

pytestmark = pytest.mark.filterwarnings("ignore")  # those of other people's packages

THEIRS = {
    "siqa": "social_iqa",
    "commonsenseqa": "commonsense_qa",
    "mmlu": "mmlu_abstract_algebra",
    "lambada": "lambada_openai",
}
NUMBERS = range(6)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "begin"])
def scorer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    pytest.importorskip("lm_eval", reason='lm_eval is not installed: pip install "mads[eval]"')
    pytest.importorskip("accelerate", reason='accelerate is missing: pip install "mads[eval]"')
    folder = tiny_folder(tmp_path_factory.mktemp("tiny") / "hf", context=96, begin=request.param)
    return open_scorer(folder, 4)


@cache
def manager() -> Any:
    """The harness's index of all its tasks, which takes long to make."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def theirs(
    scorer: Scorer, config: dict[str, Any], files: dict[str, str], shots: int, cache: Path
) -> list[list[tuple[float, bool]]]:
    """Return what the harness says of each answer of each item of a task."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    config |= {
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files, "cache_dir": str(cache)},
    }
    model = HFLM(pretrained=scorer.lm.model, tokenizer=scorer.tokenizer, batch_size=3, device="cpu")
    assert model.max_length == scorer.context
    found = simple_evaluate(
        model,
        tasks=[config],
        num_fewshot=shots,
        log_samples=True,
        bootstrap_iters=0,
        task_manager=manager(),
    )
    (samples,) = found["samples"].values()
    samples = sorted(samples, key=lambda sample: sample["doc_id"])
    return [[tuple(answer) for answer in sample["filtered_resps"]] for sample in samples]


def ours(scorer: Scorer, items: Sequence[Item], shown: str) -> list[list[tuple[float, bool]]]:
    """Return the same of ours, after ``shown``."""
    found = []
    for item in items:
        prompts = [item.description + shown + context for context in item.contexts]
        pairs = [Pair(p, DELIMITER + a) for p, a in zip(prompts, item.answers, strict=True)]
        scores = scorer.score(pairs, lambda *_: None)
        found.append([(score.log_likelihood, score.greedy) for score in scores])
    return found


def difference(a: list[list[tuple[float, bool]]], b: list[list[tuple[float, bool]]]) -> float:
    """Return the largest difference of two log-likelihoods; all else must be equal."""
    assert [[greedy for _, greedy in item] for item in a] == [[g for _, g in item] for item in b]
    pairs = [two for one in zip(a, b, strict=True) for two in zip(*one, strict=True)]
    return max(abs(left - right) for (left, _), (right, _) in pairs)


@pytest.mark.parametrize("shots", [0, 2])
@pytest.mark.parametrize("task", EVALUATORS)
def test_scores_are_the_harness_own(task: str, shots: int, scorer: Scorer, tmp_path: Path) -> None:
    """With its prompts, its delimiters and the first examples of the other file."""
    from lm_eval.tasks._yaml_loader import load_yaml

    path = manager().task_index[THEIRS.get(task, task)].yaml_path
    config: dict[str, Any] = load_yaml(path)
    split = EVALUATORS[task].splits[0]
    other = EVALUATORS[task].examples[0]
    files = {
        split: str(write_data(tmp_path, task, split, NUMBERS)),
        other: str(write_data(tmp_path, task, other, range(10, 14))),
    }
    # LAMBADA's answers bring a space of their own there, which makes two in an example.
    delimiter = {"target_delimiter": ""} if task == "lambada" else {}
    config |= {"fewshot_split": other, "fewshot_config": {"sampler": "first_n", **delimiter}}
    if task == "mmlu":
        subject = "The following are multiple choice questions (with answers) about high school "
        config["description"] = f"{subject}fruit.\n\n"
    source = open_source(task, EVALUATORS[task], tmp_path, shots)
    assert isinstance(source, Source)
    examples = source.examples.items[:shots] if source.examples else ()
    shown = "".join(f"{example.solved}\n\n" for example in examples)
    assert len(examples) == shots
    expected = theirs(scorer, config, files, shots, tmp_path / "cache")
    found = ours(scorer, source.evaluated.items, shown)
    assert difference(found, expected) < 1e-4
    prompts = Examples(task, source, 0, shots).prompts(0, source.evaluated.items[0], shots)
    assert len(prompts) == len(expected[0])


def test_items_with_their_own_prompt(scorer: Scorer, tmp_path: Path) -> None:
    """The space at the end of a prompt is the answer's, and a long prompt loses its beginning."""
    items = [
        {"query": f"{'plum ' * 9 * i}Which {i}?\nAnswer: ", "choices": ["fig", "a pear"], "gold": 1}
        for i in range(10)
    ]
    path = write_jsonl(tmp_path / "arc_easy.test.jsonl", items)
    config = {
        "task": "own",
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "{{query.rstrip()}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{gold}}",
        "metric_list": [{"metric": "acc"}],
    }
    source = open_source("arc_easy", EVALUATORS["arc_easy"], tmp_path, 0)
    assert isinstance(source, Source)
    assert len(source.evaluated.items) == len(records("arc_easy", range(10)))
    expected = theirs(scorer, config, {"test": str(path)}, 0, tmp_path / "cache")
    assert difference(ours(scorer, source.evaluated.items, ""), expected) < 1e-4
