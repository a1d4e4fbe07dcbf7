"""Where the items of an evaluation task come from: local files by name, or the Hugging Face Hub.

A local file is called TASK.SPLIT.SUFFIX, TASK_SPLIT.SUFFIX, TASK/SPLIT….SUFFIX or
TASK/SPLIT/….SUFFIX, as in ``arc_easy.test.jsonl.gz`` or ``ARC-Easy/test-00000-of-00001.parquet``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from mads.errors import DataError, UsageError
from mads.evaluation.choices import ChoiceTask, Item, read_item
from mads.seeds import derive, shuffled
from mads.tasks.formats import fetch_files, read_rows

SUFFIXES = ("parquet", "jsonl", "jsonl.gz", "jsonl.zst")
# Where the Hub keeps every data set as CONFIG/SPLIT/0000.parquet, whatever its own files are.
HUB_REVISION = "refs/convert/parquet"
_SPLITS = {
    "train": "train",
    "test": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "dev",
}

# What other columns, values of other types and deep nesting make a reader raise
_NOT_ITS_OWN = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    SyntaxError,
    RecursionError,
    MemoryError,
)

Splits = dict[str, list[Path]]
"""Split -> its files, in order."""


@dataclass(frozen=True, slots=True)
class Items:
    """The items of one split; ``left_out`` of its rows have no right answer, or an empty one."""

    where: str
    items: tuple[Item, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class Source:
    """What a task is evaluated on, and what its few-shot examples are drawn from.

    ``examples`` is None where they are drawn from the other items.
    """

    evaluated: Items
    examples: Items | None


def local_splits(folder: Path, task: ChoiceTask) -> Splits:
    """Return a task's files below a folder."""
    names = "|".join(task.names)
    inner = f"{_plain(task.config)}|data"
    pattern = re.compile(
        rf"(?:.*/)?(?:{names})(?:/(?:{inner}))?[._/]({'|'.join(_SPLITS)})(?:[._/][^/]*)?"
        rf"\.(?:{'|'.join(map(re.escape, SUFFIXES))})"
    )
    found: Splits = {}
    for path in sorted(folder.rglob("*")):
        hit = pattern.fullmatch(_plain(path.relative_to(folder).as_posix()))
        if hit and path.is_file():
            found.setdefault(_SPLITS[hit[1]], []).append(path)
    return found


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def hub_splits(task: ChoiceTask) -> Splits:
    """Fetch a task's files from the Hub; raises UsageError when it cannot."""
    wanted = dict.fromkeys((*task.splits, *task.examples))
    patterns = [f"{task.config}/{split}/*.parquet" for split in wanted]
    found: Splits = {}
    for path in fetch_files(task.hub, patterns, HUB_REVISION):
        found.setdefault(path.parent.name, []).append(path)
    return found


def open_source(name: str, task: ChoiceTask, folder: Path | None, shots: int) -> Source | str:
    """Return a task's items, or why there are none.

    Without a folder they come from the Hub. Raises DataError, with file and row, for a record that
    is not the task's.
    """
    try:
        splits = hub_splits(task) if folder is None else local_splits(folder, task)
    except UsageError as error:
        return str(error)
    evaluated = next((split for split in task.splits if split in splits), None)
    if evaluated is None:
        place = f"{folder}" if folder is not None else f"the data set {task.hub!r}"
        example = f" (such as {task.names[0]}.{task.splits[0]}.jsonl)" if folder is not None else ""
        return f"{place} has no file with its split {' or '.join(task.splits)}{example}"
    items = read_items(name, task, splits[evaluated])
    others = [split for split in task.examples if split in splits and split != evaluated]
    for split in others if shots else ():
        examples = read_items(name, task, splits[split])
        if examples.items[0].style == items.items[0].style:
            return Source(items, examples)
    return Source(items, None)


def read_items(name: str, task: ChoiceTask, paths: Sequence[Path]) -> Items:
    """Read a split's files; raises DataError for another task's record, or without any item."""
    items, left_out = [], 0
    for path in paths:
        for row, record in enumerate(read_rows(path)):
            try:
                item = read_item(task, record)
            except _NOT_ITS_OWN as error:
                raise DataError(
                    f"task {name!r}: {path} row {row} is none of its records "
                    f"({type(error).__name__}: {error}); found the keys {sorted(record)}. Give the "
                    "columns of the Hugging Face data set, or query, choices and gold."
                ) from error
            if item.is_answerable:
                items.append(item)
            else:
                left_out += 1
    where = ", ".join(path.name for path in paths)
    if not items:
        raise DataError(f"task {name!r}: {where} holds no item with a right answer.")
    return Items(where, tuple(items), left_out)


class Examples:
    """Few-shot examples of a task: for each item, the same ones whatever the model.

    More shots keep the examples of fewer and add to them.
    """

    def __init__(self, name: str, source: Source, seed: int, shots: int) -> None:
        """Hold the examples; raises DataError when an item has fewer than ``shots``."""
        self._name, self._seed = name, seed
        self._pool = (source.examples or source.evaluated).items
        self._groups: dict[str, list[Item]] = {}
        for item in self._pool:
            self._groups.setdefault(item.group, []).append(item)
        asked = Counter(item.contexts for item in self._pool)
        fewest = min(len(self._pool) - asked[i.contexts] for i in source.evaluated.items)
        if fewest < shots:
            raise DataError(
                f"task {name!r}: {shots} few-shot examples are needed for each item, and there are "
                f"{fewest}. Give fewer --shots, or a file with more of them."
            )

    def prompts(self, row: int, item: Item, shots: int) -> list[str]:
        """Return an item's contexts after ``shots`` solved examples; ``row`` is its number."""
        shown = "".join(f"{example.solved}\n\n" for example in self.draw(row, item, shots))
        asked = {context: f"{item.description}{shown}{context}" for context in item.contexts}
        return [asked[context] for context in item.contexts]

    def draw(self, row: int, item: Item, shots: int) -> list[Item]:
        """Return ``shots`` examples, none of them with the item's question.

        They are of the item's group as far as it has so many.
        """
        if not shots:
            return []
        seed = derive(self._seed, "shots", self._name, row)
        found: list[Item] = []
        for pool in (self._groups.get(item.group, ()), self._pool):
            order = shuffled(np.arange(len(pool), dtype=np.uint64), seed).tolist()
            others = (
                pool[i] for i in order if pool[i].contexts != item.contexts and pool[i] not in found
            )
            found += islice(others, shots - len(found))
            if len(found) == shots:
                break
        return found
