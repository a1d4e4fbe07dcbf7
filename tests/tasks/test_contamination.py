"""Evaluation items among the reference items are found, counted and refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mads.config import EvaluationConfig, Recipe, ReferenceConfig, TaskConfig
from mads.errors import UsageError
from mads.recipe import recipe_from_table
from mads.rewards.sections import ForwardConfig
from mads.tasks.contamination import refuse_contamination, shared_grams, word_grams
from mads.types import ReferenceExample

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def test_grams_by_hand() -> None:
    words = LONG.split()
    found = word_grams(ReferenceExample("One, two: " + " ".join(words[2:-1]), " FOURTEEN!"))
    assert found == {" ".join(words[:13]), " ".join(words[1:])}
    assert word_grams(ReferenceExample("Who?", " Me.")) == {"who me"}
    assert word_grams(ReferenceExample("", "…")) == set()


def test_shared_grams() -> None:
    grams = word_grams(ReferenceExample(LONG, ""))
    inside = ReferenceExample("zero " + LONG, " fifteen")
    assert shared_grams([inside], grams) == grams
    assert shared_grams([ReferenceExample(LONG.replace("seven", "7"), "")], grams) == set()


def write(path: Path, contexts: list[str]) -> ReferenceConfig:
    lines = [
        json.dumps({"context": c, "continuation": f" end {i}"}) for i, c in enumerate(contexts)
    ]
    path.write_text("\n".join(lines) + "\n")
    return ReferenceConfig(path=str(path), num_examples=1)


def recipe(reference: ReferenceConfig, evaluation: TaskConfig) -> Recipe:
    return replace(
        recipe_from_table({}, "test"),
        rewards=ForwardConfig(estimator="forward", tasks={"mine": reference}),
        evaluation=EvaluationConfig(tasks={"held-out": evaluation}),
    )


def test_an_overlap_is_refused_with_its_count(tmp_path: Path) -> None:
    """Whatever subset is in use: the one example that is drawn need not be the shared one."""
    own = [f"item {i} of the reference task" for i in range(50)]
    held_out = [f"question {i} that nobody has seen" for i in range(30)]
    reference = write(tmp_path / "reference.jsonl", [*own, f"before {LONG} after"])
    clean = write(tmp_path / "clean.jsonl", held_out)
    notes: list[str] = []
    refuse_contamination(recipe(reference, clean), notes.append)
    assert notes == []
    dirty = write(tmp_path / "dirty.jsonl", [*held_out, f"a copy: {LONG}, and more"])
    message = (
        r"evaluation.tasks.held-out and rewards.tasks.mine: 1 of 31 evaluation items share 13 "
        r'words .* such as "one two three .*"\. What is evaluated must not be used as feedback'
    )
    with pytest.raises(UsageError, match=message):
        refuse_contamination(recipe(reference, dirty), notes.append)


def test_a_quotation_among_many_items_is_told_only(tmp_path: Path) -> None:
    reference = write(tmp_path / "reference.jsonl", [LONG])
    many = [f"question {i} that nobody has seen" for i in range(150)]
    evaluation = write(tmp_path / "many.jsonl", [*many, LONG])
    notes: list[str] = []
    refuse_contamination(recipe(reference, evaluation), notes.append)
    assert len(notes) == 1
    assert "1 of 151 evaluation items" in notes[0]
