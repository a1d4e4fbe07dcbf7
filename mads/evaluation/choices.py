"""Items of evaluation tasks, and how each task's records become one.

    record in the columns of the Hugging Face data set --EVALUATORS[task].read--> Item
    record with query, choices, gold ---------------------------------------------^

Prompts are those of lm-evaluation-harness 0.4 (``lm_eval/tasks``); a record with a ``query`` brings
its own.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mads.errors import UsageError, did_you_mean
from mads.tasks.formats import FORMATS, as_text

Record = Mapping[str, Any]

DELIMITER = " "  # between a context and its answer
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Item:
    """A question: answer i stands after context i, and answer ``gold`` is right.

    The contexts are equal but where the choice is a part of the question (WinoGrande). One answer
    alone has to be said word for word (LAMBADA). Few-shot examples come from the same ``group``;
    the ``description`` stands before them.
    """

    contexts: tuple[str, ...]
    answers: tuple[str, ...]
    gold: int
    group: str = ""
    description: str = ""

    @property
    def is_answerable(self) -> bool:
        """Whether the right answer is among the answers, and none is empty."""
        return 0 <= self.gold < len(self.answers) and all(a.strip() for a in self.answers)

    @property
    def solved(self) -> str:
        """The item with its right answer, as an example shows it."""
        return self.contexts[self.gold] + DELIMITER + self.answers[self.gold]

    @property
    def style(self) -> tuple[bool, bool, bool]:
        """How the prompt is made; examples of another style would teach another one."""
        context = self.contexts[0]
        letters = self.answers == tuple(LETTERS[: len(self.answers)])
        return context.startswith("Question:"), context.rstrip().endswith("Answer:"), letters


def _text(record: Record, key: str) -> str:
    return as_text(record[key], key)


def _ask(context: str, answers: Sequence[str], gold: int) -> Item:
    return Item((context,) * len(answers), tuple(as_text(a, "choices") for a in answers), gold)


def _labelled(record: Record) -> tuple[list[str], int]:
    """Return the choices of ``{"text": […], "label": […]}`` and the place of the right one."""
    choices = record["choices"]
    return list(choices["text"]), list(choices["label"]).index(_text(record, "answerKey").strip())


def _listed(question: str, answers: Sequence[str]) -> str:
    """Return a question with its choices by letter, of which one letter is the answer."""
    lines = (f"{letter}. {answer}" for letter, answer in zip(LETTERS, answers, strict=False))
    return "\n".join((question.strip(), *lines, "Answer:"))


def _place(value: object) -> int:
    """Return the place of the right answer, given as a number or as a letter."""
    if isinstance(value, str) and len(value) == 1 and value.upper() in LETTERS:
        return LETTERS.index(value.upper())
    if not isinstance(value, int | str):
        raise TypeError(f"found {value!r} as the right answer, expected a number or a letter")
    return int(value)


def from_query(record: Record) -> Item:
    """Read ``query``, ``choices`` and ``gold``: the prompt is the record's own."""
    return _ask(_text(record, "query").rstrip(), record["choices"], _place(record["gold"]))


def _arc(record: Record) -> Item:
    answers, gold = _labelled(record)
    return _ask(f"Question: {_text(record, 'question')}\nAnswer:", answers, gold)


def _openbookqa(record: Record) -> Item:
    answers, gold = _labelled(record)
    return _ask(_text(record, "question_stem"), answers, gold)


def _commonsenseqa(record: Record) -> Item:
    answers, gold = _labelled(record)
    question = _listed(f"Question: {_text(record, 'question').strip()}", answers)
    return _ask(question, LETTERS[: len(answers)], gold)


def _mathqa(record: Record) -> Item:
    options = re.findall(r"[abcd] \) .*?, |e \) .*?$", _text(record, "options"))
    gold = _place(record["correct"])
    context = f"Question: {_text(record, 'Problem')}\nAnswer:"
    return _ask(context, [option[4:].rstrip(" ,") for option in options], gold)


def _mmlu(record: Record) -> Item:
    answers, subject = record["choices"], _text(record, "subject")
    context = _listed(_text(record, "question"), answers)
    about = f"multiple choice questions (with answers) about {subject.replace('_', ' ')}"
    return replace(
        _ask(context, LETTERS[: len(answers)], _place(record["answer"])),
        group=subject,
        description=f"The following are {about}.\n\n",
    )


def _siqa(record: Record) -> Item:
    context = f"Q: {_text(record, 'context')} {_text(record, 'question')}\nA:"
    answers = [_text(record, key) for key in ("answerA", "answerB", "answerC")]
    return _ask(context, answers, int(record["label"]) - 1)


def _winogrande(record: Record) -> Item:
    before, blank, after = _text(record, "sentence").partition("_")
    if not blank:
        raise ValueError("sentence has no _")
    options = [_text(record, key) for key in ("option1", "option2")]
    contexts = tuple(before + option for option in options)
    return Item(contexts, (after.strip(),) * 2, int(record["answer"]) - 1)


def _race(record: Record) -> Item:
    """Read an article with all its problems, the last of which is asked, or with one."""
    text = f"Article: {_text(record, 'article')}\n\n"
    if "problems" not in record:
        gold = _place(record["answer"])
        return _ask(text + _text(record, "question"), record["options"], gold)
    *shown, last = ast.literal_eval(_text(record, "problems"))  # literals only; runs nothing
    for problem in shown:
        question, answer = problem["question"], problem["options"][_place(problem["answer"])]
        if question.endswith("  _  ."):
            text += f"{question[:-5]}{answer}\n"
        else:
            text += f"Question: {question}\nAnswer: {answer}\n"
    return _ask(text + last["question"], last["options"], _place(last["answer"]))


def _boolq(record: Record) -> Item:
    context = f"{_text(record, 'passage')}\nQuestion: {_text(record, 'question')}?\nAnswer:"
    return _ask(context, ("no", "yes"), int(record["answer" if "answer" in record else "label"]))


def _hellaswag(record: Record) -> Item:
    context = f"{_text(record, 'ctx_a')} {_text(record, 'ctx_b').capitalize()}"
    context = _without_brackets(f"{_text(record, 'activity_label')}: {context}")
    return _ask(context, list(map(_without_brackets, record["endings"])), int(record["label"]))


def _without_brackets(text: str) -> str:
    """Return a text without what the WikiHow part of HellaSwag has in brackets."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


def _piqa(record: Record) -> Item:
    answers = [_text(record, "sol1"), _text(record, "sol2")]
    return _ask(f"Question: {_text(record, 'goal')}\nAnswer:", answers, int(record["label"]))


def _sciq(record: Record) -> Item:
    context = f"{_text(record, 'support').lstrip()}\nQuestion: {_text(record, 'question')}\nAnswer:"
    keys = ("distractor1", "distractor2", "distractor3", "correct_answer")
    return _ask(context, [_text(record, key) for key in keys], 3)


def _lambada(record: Record) -> Item:
    found = FORMATS["lambada"](record)
    return _ask(found.context, [found.continuation.removeprefix(DELIMITER)], 0)


@dataclass(frozen=True, slots=True)
class ChoiceTask:
    """An evaluation task: how its records are read, and where its data is.

    ``names`` are how its files or folders may be called, ``config`` its part of the data set
    ``hub``. Of ``splits`` the first that is there is evaluated, of ``examples`` the first other
    one gives few-shot examples.
    """

    read: Callable[[Record], Item]
    names: tuple[str, ...]
    hub: str
    config: str = "default"
    splits: tuple[str, ...] = ("validation", "dev")
    examples: tuple[str, ...] = ("train", "validation", "dev")


_TESTED = ("test", "validation", "dev")

EVALUATORS: dict[str, ChoiceTask] = {
    "arc_easy": ChoiceTask(
        _arc, ("arc_easy", "arc_e"), "allenai/ai2_arc", "ARC-Easy", splits=_TESTED
    ),
    "arc_challenge": ChoiceTask(
        _arc, ("arc_challenge", "arc_c"), "allenai/ai2_arc", "ARC-Challenge", splits=_TESTED
    ),
    "mathqa": ChoiceTask(_mathqa, ("mathqa", "math_qa"), "regisss/math_qa", splits=_TESTED),
    "mmlu": ChoiceTask(
        _mmlu,
        ("mmlu",),
        "cais/mmlu",
        "all",
        splits=("test", "validation"),
        examples=("dev", "validation"),
    ),
    "openbookqa": ChoiceTask(
        _openbookqa, ("openbookqa", "obqa"), "allenai/openbookqa", "main", splits=_TESTED
    ),
    "siqa": ChoiceTask(_siqa, ("siqa", "social_iqa", "social_i_qa"), "lighteval/siqa"),
    "winogrande": ChoiceTask(
        _winogrande, ("winogrande", "winogrande_xl"), "allenai/winogrande", "winogrande_xl"
    ),
    "commonsenseqa": ChoiceTask(
        _commonsenseqa, ("commonsenseqa", "commonsense_qa", "csqa"), "tau/commonsense_qa"
    ),
    "race": ChoiceTask(_race, ("race",), "EleutherAI/race", "high", splits=_TESTED),
    "boolq": ChoiceTask(_boolq, ("boolq", "bool_q"), "aps/super_glue", "boolq"),
    "hellaswag": ChoiceTask(_hellaswag, ("hellaswag",), "Rowan/hellaswag"),
    "piqa": ChoiceTask(_piqa, ("piqa",), "baber/piqa"),
    "sciq": ChoiceTask(_sciq, ("sciq",), "allenai/sciq", splits=_TESTED),
    "lambada": ChoiceTask(
        _lambada, ("lambada", "lambada_openai"), "EleutherAI/lambada_openai", splits=_TESTED
    ),
}


def read_item(task: ChoiceTask, record: Record) -> Item:
    """Return a record's item; raises what a record with other columns makes ``read`` raise."""
    return from_query(record) if "query" in record and "gold" in record else task.read(record)


def parse_tasks(text: str) -> tuple[str, ...]:
    """Return the tasks of ``a,b`` in the order of EVALUATORS; "" is all of them.

    Raises UsageError for an unknown one.
    """
    known = {name: key for key, task in EVALUATORS.items() for name in (key, *task.names)}
    asked = [part.strip() for part in text.split(",") if part.strip()]
    if not asked:
        return tuple(EVALUATORS)
    found = set()
    for name in asked:
        plain = name.lower().replace("-", "_")
        if plain not in known:
            raise UsageError(f"--tasks: {name!r} is not known; {did_you_mean(plain, EVALUATORS)}")
        found.add(known[plain])
    return tuple(key for key in EVALUATORS if key in found)
