"""The prompt of every task, written out by hand, and which tasks --tasks means."""

from __future__ import annotations

from typing import Any

import pytest
from evaluation.quiz import RECORDS

from mads.errors import UsageError
from mads.evaluation.choices import EVALUATORS, Item, parse_tasks, read_item

FOUR = ("apple 1", "pear 1", "plum 1", "fig 1")


def ask(context: str, answers: tuple[str, ...], gold: int, *more: str) -> Item:
    return Item((context,) * len(answers), answers, gold, *more)


EXPECTED: dict[str, Item] = {
    "arc_easy": ask("Question: Which is 1?\nAnswer:", FOUR, 1),
    "arc_challenge": ask("Question: Which one is 1?\nAnswer:", FOUR, 1),
    "openbookqa": ask("The fruit number 1 is the", FOUR, 1),
    "commonsenseqa": ask(
        "Question: Where is 1?\nA. apple 1\nB. pear 1\nC. plum 1\nD. fig 1\nE. kiwi fruit 1\n"
        "Answer:",
        ("A", "B", "C", "D", "E"),
        1,
    ),
    "mathqa": ask(
        "Question: what is 1 + 1 , sir ?\nAnswer:", ("1", "2", "3 cm", "1,01", "none of these"), 1
    ),
    "mmlu": ask(
        "What is fruit 1?\nA. apple 1\nB. pear 1\nC. plum 1\nD. fig 1\nAnswer:",
        ("A", "B", "C", "D"),
        1,
        "high_school_fruit",
        "The following are multiple choice questions (with answers) about high school fruit.\n\n",
    ),
    "siqa": ask("Q: Kim ate 1 pears. How is Kim?\nA:", ("full", "very hungry", "1 years old"), 1),
    "winogrande": Item(
        ("Ann gave Bea 1 figs, so Ann", "Ann gave Bea 1 figs, so Bea"), ("has fewer now.",) * 2, 1
    ),
    "race": ask(
        "Article: There were 1 plums.\n\nHow many pear 1\nQuestion: Why?\nAnswer: plum 2\n"
        "Who saw 1?",
        FOUR,
        1,
    ),
    "boolq": ask("A plum -- is 1 fruits.\nQuestion: is 1 a plum?\nAnswer:", ("no", "yes"), 1),
    "hellaswag": ask(
        "Eating 1: A man sits. at a table. He",
        ("eats 1 plums.", " sleeps.", "counts to 1.", "leaves."),
        1,
    ),
    "piqa": ask("Question: Peel 1 figs.\nAnswer:", ("Use a knife.", "Use 1 spoons."), 1),
    "sciq": ask(
        "Plums have 1 stones.\nQuestion: What have plums?\nAnswer:",
        ("wings", "two legs", "1 eyes", "stones 1"),
        3,
    ),
    "lambada": ask("He took 1 figs and peeled each", ("fig",), 0),
}


def test_every_task_has_a_record_and_an_expectation() -> None:
    assert set(RECORDS) == set(EXPECTED) == set(EVALUATORS)


@pytest.mark.parametrize("task", EVALUATORS)
def test_the_prompt(task: str) -> None:
    assert read_item(EVALUATORS[task], RECORDS[task](1)) == EXPECTED[task]


@pytest.mark.parametrize(
    ("task", "record", "expected"),
    [
        (
            "race",
            {"article": "One.", "question": "Who?", "options": ["I", "you"], "answer": "B"},
            ask("Article: One.\n\nWho?", ("I", "you"), 1),
        ),
        (
            "boolq",
            {"passage": "P.", "question": "is it", "answer": True},
            ask("P.\nQuestion: is it?\nAnswer:", ("no", "yes"), 1),
        ),
        (
            "lambada",
            {"text": "he said 'hi", "until_last": "he said '", "last_word": "hi"},
            ask("he said '", ("hi",), 0),
        ),
        (
            "mmlu",
            {"subject": "law", "question": "Q", "choices": ["x", "y"], "answer": "B"},
            ask(
                "Q\nA. x\nB. y\nAnswer:",
                ("A", "B"),
                1,
                "law",
                "The following are multiple choice questions (with answers) about law.\n\n",
            ),
        ),
        (
            "mathqa",
            {"query": "Question: 1 ?\nA. 3\nB. 4\nAnswer: ", "choices": ["A", "B"], "gold": 1},
            ask("Question: 1 ?\nA. 3\nB. 4\nAnswer:", ("A", "B"), 1),
        ),
    ],
)
def test_other_columns(task: str, record: dict[str, Any], expected: Item) -> None:
    assert read_item(EVALUATORS[task], record) == expected


def test_an_item_as_an_example() -> None:
    assert EXPECTED["winogrande"].solved == "Ann gave Bea 1 figs, so Bea has fewer now."
    assert EXPECTED["piqa"].solved == "Question: Peel 1 figs.\nAnswer: Use 1 spoons."


def test_styles() -> None:
    assert EXPECTED["arc_easy"].style == EXPECTED["piqa"].style == (True, True, False)
    assert EXPECTED["openbookqa"].style == (False, False, False)
    assert EXPECTED["commonsenseqa"].style == (True, True, True)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (ask("q", ("a", "b"), 1), True),
        (ask("q", ("a", "b"), 2), False),
        (ask("q", ("a", "b"), -1), False),
        (ask("q", ("a", " "), 0), False),
        (ask("q", (), 0), False),
    ],
)
def test_answerable(item: Item, expected: bool) -> None:
    assert item.is_answerable == expected


def test_tasks_by_name() -> None:
    assert parse_tasks("") == tuple(EVALUATORS)
    assert parse_tasks("BoolQ, ARC-E,math_qa,arc_easy") == ("arc_easy", "mathqa", "boolq")
    with pytest.raises(UsageError, match="--tasks: 'hellaswak' is not known; did you mean 'hella"):
        parse_tasks("boolq,hellaswak")
