"""Reference and evaluation tasks, tokenised."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mads.config import TaskConfig
from mads.corpus.tokenizer import StoreTokenizer
from mads.errors import UsageError
from mads.tasks.formats import load_examples

Objective = Literal["answer", "text"]


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One item's tokens; the loss counts on those from ``num_context`` (>= 1) on."""

    tokens_T: NDArray[np.int64]
    num_context: int


@dataclass(frozen=True, slots=True)
class Task:
    """A tokenised task: its weight and its items, the shortest first."""

    name: str
    weight: float
    items: tuple[Item, ...]
    objective: Objective = "answer"


def need_tasks(tasks: Sized, what: str) -> None:
    """Raise UsageError where there is no reference task; ``what`` is done to them."""
    if not tasks:
        raise UsageError(
            f"{what} to reference tasks: add a [rewards.tasks.NAME] section with a path."
        )


def make_task(
    name: str, config: TaskConfig, tokenizer: StoreTokenizer, context: int, seed: int
) -> Task:
    """Load and tokenise a task; an item longer than ``context`` tokens loses its beginning."""
    items: list[Item] = []
    for example in load_examples(name, config, seed):
        before = tokenizer.encode_plain(example.context) or [tokenizer.end_of_text]
        after = tokenizer.encode_plain(example.continuation)[: context - 1]
        kept = before[max(len(before) + len(after) - context, 0) :]
        items.append(Item(np.array(kept + after, np.int64), len(kept)))
    items.sort(key=lambda item: len(item.tokens_T))
    return Task(name, config.weight, tuple(items))


def by_objective(answer: Task, objective: str) -> list[Task]:
    """Return a task for each loss of a reference task that counts; ``answer`` is the answers'.

    The whole text's is called NAME-text. It is left out where it is the answer's, since items
    have no context.
    """
    if all(item.num_context == 1 for item in answer.items):
        return [replace(answer, objective="text")]
    text = replace(
        answer,
        name=text_name(answer.name),
        items=tuple(replace(item, num_context=1) for item in answer.items),
        objective="text",
    )
    return {"answer": [answer], "text": [text], "both": [answer, text]}[objective]


def text_name(name: str) -> str:
    """Return what the whole text's loss of a reference task is called."""
    return f"{name}-text"
