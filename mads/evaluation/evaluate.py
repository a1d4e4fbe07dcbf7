"""What a model knows: bits per byte of the right answer and accuracy on multiple-choice tasks.

Each mean is over items, with its standard error; a task's mean is over its numbers of few-shot
examples, item by item, and never the best of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mads.errors import DataError, UsageError
from mads.evaluation.choices import DELIMITER, EVALUATORS, Item
from mads.evaluation.scoring import Pair, Score, Scorer, model_folder, open_scorer
from mads.evaluation.sources import Examples, Source, open_source
from mads.seeds import derive, shuffled
from mads.types import Floats, Report
from mads.units import parse_numbers, shorten

OTHER_ITEMS = "the other items"


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over items and its standard error, which a single item has not."""

    mean: float
    stderr: float | None


@dataclass(frozen=True, slots=True)
class Scores:
    """Bits per byte of the right answer (lower is better), and shares of right answers.

    ``accuracy``: the right answer is the most likely one; ``normalised``: by its bytes. A task of
    one answer has the share of items that greedy decoding gets right, and nothing by bytes.
    """

    bits_per_byte: Mean
    accuracy: Mean
    normalised: Mean | None


@dataclass(frozen=True, slots=True)
class ShotScores:
    """Scores after so many examples; the beginning of ``truncated`` items did not fit."""

    shots: int
    truncated: int
    scores: Scores


@dataclass(frozen=True, slots=True)
class TaskScores:
    """A task: the file that was read, where examples came from, and its scores.

    ``left_out`` rows have no right answer, or an empty one.
    """

    file: str
    examples: str
    num_items: int
    left_out: int
    mean: Scores
    by_shots: tuple[ShotScores, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All tasks; ``missing`` ones with the reason, ``mean`` over the tasks that are there."""

    model: str
    context: int
    seed: int
    shots: tuple[int, ...]
    tasks: Mapping[str, TaskScores]
    missing: Mapping[str, str]
    mean: Scores


@dataclass(frozen=True, slots=True)
class Measured:
    """Numbers for each of N items; ``normalised_N`` is None for a task of one answer."""

    bits_N: Floats
    accuracy_N: Floats
    normalised_N: Floats | None
    truncated_N: Floats


def parse_shots(text: str) -> tuple[int, ...]:
    """Return the numbers of few-shot examples in ``0,3,5``; raises UsageError."""
    found = parse_numbers(text.split(","), 1000)
    if found is None:
        raise UsageError(
            f"--shots {shorten(text)}: expected different numbers from 0 to 1000, such as 0,3,5."
        )
    return tuple(sorted(found))


def evaluate(
    path: Path,
    tasks: Sequence[str],
    data: Path | None,
    shots: Sequence[int],
    limit: int,
    batch_size: int,
    report: Report,
    seed: int = 0,
) -> Evaluation:
    """Evaluate a run's latest checkpoint or a Hugging Face folder on tasks of EVALUATORS.

    ``data`` is the folder with their files, None the Hub; ``limit`` items are drawn of each (0 =
    all). Raises UsageError or DataError when the model or a file cannot be read, or when no task
    has data.
    """
    if data is not None and not data.is_dir():
        raise UsageError(f"--data {data} is no folder. Give the one with the tasks' files.")
    folder = model_folder(path)
    found = {name: open_source(name, EVALUATORS[name], data, max(shots)) for name in tasks}
    sources = {name: source for name, source in found.items() if isinstance(source, Source)}
    missing = {name: reason for name, reason in found.items() if isinstance(reason, str)}
    if not sources:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in missing.items())
        raise DataError(f"no task has data:{reasons}")
    examples = {name: Examples(name, source, seed, max(shots)) for name, source in sources.items()}
    scorer = open_scorer(folder, batch_size)
    results = {
        name: evaluate_task(
            name, source, examples[name], scorer, shots, subset(source, limit, seed, name), report
        )
        for name, source in sources.items()
    }
    mean = over_tasks([result.mean for result in results.values()])
    return Evaluation(str(folder), scorer.context, seed, tuple(shots), results, missing, mean)


def evaluate_task(
    name: str,
    source: Source,
    examples: Examples,
    scorer: Scorer,
    shots: Sequence[int],
    rows: Sequence[int],
    report: Report,
) -> TaskScores:
    """Score the items in the given rows of a task with each number of examples."""
    items = [source.evaluated.items[row] for row in rows]
    found: list[Measured] = []
    for number, count in enumerate(shots):

        def told(done: int, total: int, number: int = number) -> None:
            report(name, number * total + done, len(shots) * total)

        prompts = [examples.prompts(*numbered, count) for numbered in zip(rows, items, strict=True)]
        found.append(measure(items, prompts, scorer, told))
    return TaskScores(
        source.evaluated.where,
        source.examples.where if source.examples else OTHER_ITEMS,
        len(items),
        source.evaluated.left_out,
        summarise(found),
        tuple(
            ShotScores(count, int(measured.truncated_N.sum()), summarise([measured]))
            for count, measured in zip(shots, found, strict=True)
        ),
    )


def subset(source: Source, limit: int, seed: int, name: str) -> list[int]:
    """Return the numbers of ``limit`` seeded items of a task (0 = all), in order."""
    numbers = np.arange(len(source.evaluated.items), dtype=np.uint64)
    order = shuffled(numbers, derive(seed, "items", name))
    return sorted(order[: limit or None].tolist())


def measure(
    items: Sequence[Item],
    prompts: Sequence[Sequence[str]],
    scorer: Scorer,
    report: Callable[[int, int], None],
) -> Measured:
    """Score items whose contexts are ``prompts``."""
    pairs = [
        Pair(context, DELIMITER + answer)
        for item, contexts in zip(items, prompts, strict=True)
        for context, answer in zip(contexts, item.answers, strict=True)
    ]
    scores = iter(scorer.score(pairs, report))
    rows = [judge(item, [next(scores) for _ in item.answers]) for item in items]
    columns = np.array([row[:2] for row in rows]), [row[2] for row in rows]
    has_choices = all(value is not None for value in columns[1])
    return Measured(
        columns[0][:, 0],
        columns[0][:, 1],
        np.array(columns[1], float) if has_choices else None,
        np.array([row[3] for row in rows], float),
    )


def judge(item: Item, scores: Sequence[Score]) -> tuple[float, bool, bool | None, bool]:
    """Return an item's bits per byte, whether it is right, right by bytes, and whether it was cut.

    Bytes are those of the answer without the space before it.
    """
    likely = np.array([score.log_likelihood for score in scores])
    bytes_C = np.array([len(answer.encode()) for answer in item.answers])
    bits = -likely[item.gold] / (math.log(2) * bytes_C[item.gold])
    cut = any(score.truncated for score in scores)
    if len(scores) == 1:
        return float(bits), scores[0].greedy, None, cut
    right = int(likely.argmax()) == item.gold
    return float(bits), right, int((likely / bytes_C).argmax()) == item.gold, cut


def summarise(measured: Sequence[Measured]) -> Scores:
    """Return means over items of each item's mean over numbers of examples."""
    normalised = [one.normalised_N for one in measured if one.normalised_N is not None]
    return Scores(
        over_items([one.bits_N for one in measured]),
        over_items([one.accuracy_N for one in measured]),
        over_items(normalised) if normalised else None,
    )


def over_items(values: Sequence[Floats]) -> Mean:
    """Return the mean over items and its standard error, s/√n, of each item's mean."""
    mean_N = np.mean(values, axis=0)
    count = len(mean_N)
    stderr = float(mean_N.std(ddof=1)) / math.sqrt(count) if count > 1 else None
    return Mean(float(mean_N.mean()), stderr)


def over_tasks(scores: Sequence[Scores]) -> Scores:
    """Return means over tasks, each task counting the same; a task without one is left out."""
    normalised = [one.normalised for one in scores if one.normalised is not None]
    return Scores(
        _together([one.bits_per_byte for one in scores]),
        _together([one.accuracy for one in scores]),
        _together(normalised) if normalised else None,
    )


def _together(means: Sequence[Mean]) -> Mean:
    """Return the mean of independent means; its standard error is √Σs² / n."""
    errors = [one.stderr for one in means if one.stderr is not None]
    known = len(errors) == len(means)
    stderr = math.sqrt(math.fsum(e * e for e in errors)) / len(means) if known else None
    return Mean(math.fsum(one.mean for one in means) / len(means), stderr)
