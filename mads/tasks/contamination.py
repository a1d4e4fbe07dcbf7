"""What is evaluated must not be used as feedback: shared 13-grams of words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from mads.config import Recipe, TaskConfig
from mads.errors import UsageError
from mads.files import file_sha256
from mads.tasks.formats import load_examples
from mads.types import ReferenceExample

GRAM = 13  # words, as usual since Brown et al. 2020
ALLOWED = 0.01  # share of an evaluation task's items that may overlap by chance
_WORD = re.compile(r"\w+")


def word_grams(example: ReferenceExample) -> set[str]:
    """Return an item's 13-grams of lower-case words; a shorter item is one gram as a whole."""
    words = _WORD.findall(f"{example.context} {example.continuation}".lower())
    last = max(len(words) - GRAM, 0)
    return {" ".join(words[i : i + GRAM]) for i in range(last + 1)} if words else set()


def shared_grams(examples: Iterable[ReferenceExample], grams: set[str]) -> set[str]:
    """Return those of the grams that occur in the examples."""
    found: set[str] = set()
    for example in examples:
        found |= word_grams(example) & grams
    return found


def refuse_contamination(recipe: Recipe, note: Callable[[str], None]) -> None:
    """Raise UsageError when an evaluation task and a reference task have items in common.

    All items of both are compared, not only the subsets in use. A few that share a gram by chance
    (a quotation) are told through ``note``.
    """
    _refuse_same_file(recipe)
    evaluation = {
        name: [word_grams(example) for example in _all_items(name, task, recipe.evaluation.seed)]
        for name, task in recipe.evaluation.tasks.items()
    }
    grams = set[str]().union(*(item for items in evaluation.values() for item in items))
    for other, task in recipe.rewards.tasks.items():
        items_of = _all_items(other, task, recipe.evaluation.seed)
        found = shared_grams(items_of, grams) if grams else set()
        for name, items in evaluation.items():
            shared = [sorted(item & found)[0] for item in items if item & found]
            if not shared:
                continue
            where = (
                f"evaluation.tasks.{name} and rewards.tasks.{other}: {len(shared)} of {len(items)} "
                f"evaluation items share {GRAM} words in a row (or all, if shorter) with a "
                f'reference item, such as "{shared[0]}"'
            )
            if len(shared) > ALLOWED * len(items):
                raise UsageError(
                    f"{where}. What is evaluated must not be used as feedback: remove one of the "
                    "tasks, or the items they share."
                )
            note(f"{where}.")


def _all_items(name: str, task: TaskConfig, seed: int) -> list[ReferenceExample]:
    return load_examples(name, replace(task, num_examples=0), seed)


def _refuse_same_file(recipe: Recipe) -> None:
    sources = {_source(task): name for name, task in recipe.rewards.tasks.items()}
    for name, task in recipe.evaluation.tasks.items():
        if _source(task) in sources:
            raise UsageError(
                f"evaluation.tasks.{name} and rewards.tasks.{sources[_source(task)]} read "
                f"the same items ({task.path}); what is evaluated must not be used as feedback."
            )


def _source(task: TaskConfig) -> str:
    """Return what tells a task's items from another's: the file's content, or id and split."""
    path = Path(task.path)
    return file_sha256(path) if path.is_file() else f"{task.path} {task.split}"
