"""Toy records of every evaluation task in its columns, their files, and a tiny model to ask."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, processors
from toys import write_jsonl

from mads.config import ModelConfig, TrainingConfig
from mads.corpus.tokenizer import train_tokenizer
from mads.training.build import build_model

Record = dict[str, Any]

FRUITS = ("apple", "pear", "plum", "fig", "kiwi fruit")


def _labelled(i: int, count: int = 4) -> Record:
    texts = [f"{fruit} {i}" for fruit in FRUITS[:count]]
    labels = list("ABCDE"[:count])
    return {"choices": {"text": texts, "label": labels}, "answerKey": labels[i % count]}


def _problem(i: int, question: str) -> Record:
    options = [f"{fruit} {i}" for fruit in FRUITS[:4]]
    return {"question": question, "answer": "ABCD"[i % 4], "options": options}


RECORDS: dict[str, Callable[[int], Record]] = {
    "arc_easy": lambda i: {"id": str(i), "question": f"Which is {i}?", **_labelled(i)},
    "arc_challenge": lambda i: {"id": str(i), "question": f"Which one is {i}?", **_labelled(i)},
    "openbookqa": lambda i: {"question_stem": f"The fruit number {i} is the", **_labelled(i)},
    "commonsenseqa": lambda i: {"question": f" Where is {i}? ", **_labelled(i, 5)},
    "mathqa": lambda i: {
        "Problem": f"what is {i} + {i} , sir ?",
        "options": f"a ) {i} , b ) {2 * i} , c ) {3 * i} cm , d ) 1,0{i} , e ) none of these",
        "correct": "abcde"[i % 5],
    },
    "mmlu": lambda i: {
        "subject": "high_school_fruit",
        "question": f"What is fruit {i}? ",
        "choices": [f"{fruit} {i}" for fruit in FRUITS[:4]],
        "answer": i % 4,
    },
    "siqa": lambda i: {
        "context": f"Kim ate {i} pears.",
        "question": "How is Kim?",
        "answerA": "full",
        "answerB": "very hungry",
        "answerC": f"{i} years old",
        "label": str(i % 3 + 1),
    },
    "winogrande": lambda i: {
        "sentence": f"Ann gave Bea {i} figs, so _ has fewer now.",
        "option1": "Ann",
        "option2": "Bea",
        "answer": str(i % 2 + 1),
    },
    "race": lambda i: {
        "article": f"There were {i} plums.",
        "problems": str(
            [_problem(i, "How many  _  ."), _problem(i + 1, "Why?"), _problem(i, f"Who saw {i}?")]
        ),
    },
    "boolq": lambda i: {
        "question": f"is {i} a plum",
        "passage": f"A plum -- is {i} fruits.",
        "label": i % 2,
    },
    "hellaswag": lambda i: {
        "activity_label": f"Eating {i}",
        "ctx_a": "A man [header] sits [title] at a table.",
        "ctx_b": "he",
        "endings": [f"eats {i}  plums.", "[step] sleeps.", f"counts to {i}.", "leaves."],
        "label": str(i % 4),
    },
    "piqa": lambda i: {
        "goal": f"Peel {i} figs.",
        "sol1": "Use a knife.",
        "sol2": f"Use {i} spoons.",
        "label": i % 2,
    },
    "sciq": lambda i: {
        "support": f" Plums have {i} stones.",
        "question": "What have plums?",
        "distractor1": "wings",
        "distractor2": "two legs",
        "distractor3": f"{i} eyes",
        "correct_answer": f"stones {i}",
    },
    "lambada": lambda i: {"text": f"He took {i} figs and peeled each fig"},
}


def records(task: str, numbers: Sequence[int]) -> list[Record]:
    return [RECORDS[task](i) for i in numbers]


def write_data(folder: Path, task: str, split: str, numbers: Sequence[int]) -> Path:
    return write_jsonl(folder / f"{task}.{split}.jsonl", records(task, numbers))


def tiny_folder(folder: Path, context: int = 128, *, begin: bool = False, seed: int = 3) -> Path:
    """Write a tiny random LLaMA with a tokenizer of its own.

    With ``begin`` the tokenizer puts a first token before each text, as LLaMA's does.
    """
    texts = [json.dumps(RECORDS[task](i)) for task in RECORDS for i in range(30)]
    train_tokenizer(texts, 400, folder)
    if begin:
        path = folder / "tokenizer.json"
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.add_special_tokens(["<s>"])
        first = tokenizer.token_to_id("<s>")
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", first)]
        )
        tokenizer.save(str(path))
        config = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, "bos_token": "<s>"}))
    shape = ModelConfig(hidden_size=32, num_layers=2, num_heads=2, ffn_size=64, vocab_size=448)
    lm = build_model(shape, TrainingConfig(context=context), 401, seed=seed)
    for parameter in lm.parameters.values():  # so that its choices are not near to each other
        parameter.data.mul_(4)
    lm.model.save_pretrained(str(folder))  # type: ignore[operator]
    return folder
