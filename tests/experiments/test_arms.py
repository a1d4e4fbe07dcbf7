"""ARMS.toml: what it may say, and all that is wrong with it at once."""

from __future__ import annotations

import json
from pathlib import Path

import planted
import pytest

from mads.errors import UsageError
from mads.experiments.arms import check_arms, parse_seeds, read_arms
from mads.recipe import to_table, to_toml
from mads.store.store import Store

TWO = """base = "recipe.toml"
baseline = "natural"
[arms.natural]
set = ["selection.policy=random"]
[arms.matched]
set = ["strategy=fixed", "console.prior_file=prior.json"]
"""


@pytest.fixture
def file(folder: Path, tmp_path: Path) -> Path:
    """ARMS.toml of two arms, with its base recipe and its prior beside it."""
    text = to_toml(to_table(planted.recipe(folder, steps=20)))
    (tmp_path / "recipe.toml").write_text(text)
    (tmp_path / "prior.json").write_text(json.dumps({"kind": {"useful": 3.0, "noise": 0.1}}))
    (tmp_path / "ARMS.toml").write_text(TWO)
    return tmp_path / "ARMS.toml"


def problems(file: Path, text: str) -> str:
    """Return what is said of an ARMS.toml."""
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_arms(file)
    assert str(caught.value).startswith(str(file))
    return str(caught.value)


def test_arms_are_the_base_recipe_with_changes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")  # paths count from the file, not from here
    arms = read_arms(file)
    assert arms.baseline == "natural"
    assert list(arms.recipes) == ["natural", "matched"]
    assert arms.recipes["natural"].selection.policy == "random"
    matched = arms.recipe("matched", 7)
    assert (matched.seed, matched.strategy) == (7, "fixed")
    assert matched.console.prior == {"kind": {"useful": 3.0, "noise": 0.1}}
    assert arms.tokens == 20 * 512


def test_a_prior_beside_the_arms_is_found_with_a_shipped_base(file: Path) -> None:
    file.write_text(TWO.replace("recipe.toml", "small"))
    assert read_arms(file).recipes["matched"].console.prior["kind"]["useful"] == 3.0


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"arms .*nowhere\.toml cannot be read: No such file"):
        read_arms(tmp_path / "nowhere.toml")
    (tmp_path / "bad.toml").write_text("base = ")
    with pytest.raises(UsageError, match=r"bad\.toml is not valid TOML"):
        read_arms(tmp_path / "bad.toml")


def test_unknown_keys_and_an_unknown_baseline_are_said_together(file: Path) -> None:
    text = TWO.replace('"natural"', '"naturall"').replace("\nset", "\nsets", 1)
    found = problems(file, "jobs = 2\n" + text)
    assert "3 problem(s) in the comparison" in found
    assert "jobs: unknown key" in found
    assert "arms.natural.sets: unknown key; did you mean 'set'?" in found
    assert "baseline: 'naturall' is no arm; did you mean 'natural'?" in found


def test_no_arm_and_missing_keys(file: Path) -> None:
    assert "arms: there is none; add [arms.natural]" in problems(
        file, 'base = "recipe.toml"\nbaseline = "a"\n'
    )
    found = problems(file, "[arms.natural]\n")
    assert "base: missing" in found
    assert "baseline: missing" in found


def test_names_and_seeds_of_arms(file: Path) -> None:
    found = problems(file, TWO + '[arms."../up"]\nset = ["seed=3"]\n')
    assert "arms.../up: a name has only a-z" in found
    assert "arms.../up: 'seed=3' sets the seed; --seeds does" in found


def test_a_base_that_does_not_exist(file: Path) -> None:
    found = problems(file, TWO.replace("recipe.toml", "other.toml"))
    assert "base: recipe" in found
    assert "does not exist" in found


def test_bad_recipes_and_missing_priors_of_several_arms_are_said_together(file: Path) -> None:
    (file.parent / "prior.json").unlink()
    found = problems(file, TWO + '[arms.third]\nset = ["training.stepps=3"]\n')
    assert "2 problem(s) in the comparison" in found
    assert "arms.matched: console.prior_file: prior.json cannot be read: No such file" in found
    assert "arms.third: " in found
    assert "training.stepps: unknown key; did you mean 'steps'?" in found


def test_unequal_tokens_are_refused(file: Path) -> None:
    found = problems(file, TWO + '[arms.longer]\nset = ["training.steps=25"]\n')
    assert (
        "arms.longer: it reads 12,800 tokens (training.steps 25 x training.batch_tokens 512), but "
        "natural reads 10,240 tokens (training.steps 20 x training.batch_tokens 512). Give all arms"
    ) in found


def test_as_many_tokens_in_larger_steps_are_equal(file: Path) -> None:
    changes = '"training.steps=10", "training.batch_tokens=1024"'
    file.write_text(f"{TWO}[arms.larger]\nset = [{changes}]\n")
    assert read_arms(file).recipes["larger"].training.steps == 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model.hidden_size=64", "model.hidden_size: 32 -> 64"),
        ("tokenizer.vocab_size=400", "tokenizer.vocab_size: 300 -> 400"),
        ("evaluation.seed=1", "evaluation.seed: 0 -> 1"),
        ("rewards.tasks.planted.num_examples=2", "rewards.tasks.planted.num_examples: 0 -> 2"),
        ("training.context=64", "training.context: 32 -> 64"),
    ],
)
def test_what_would_make_losses_incomparable_is_refused(file: Path, change: str, said: str) -> None:
    found = problems(file, f'{TWO}[arms.other]\nset = ["{change}"]\n')
    assert f"arms.other: {said} (from natural)" in found
    assert "for all arms" in found


def test_the_objective_of_a_reference_task_is_the_arms_own(file: Path) -> None:
    file.write_text(f'{TWO}[arms.text]\nset = ["rewards.tasks.planted.objective=text"]\n')
    assert read_arms(file).recipes["text"].rewards.tasks["planted"].objective == "text"


def test_arms_that_do_not_fit_the_store_are_said_together(file: Path, store: Store) -> None:
    (file.parent / "prior.json").write_text(json.dumps({"kind": {"uzeful": 3.0}}))
    bound = 'set = ["selection.min_share.kind.nothing=0.5"]'
    file.write_text(f"{TWO}[arms.bounded]\n{bound}\n")
    with pytest.raises(UsageError, match=r"2 problem\(s\) in the comparison") as caught:
        check_arms(read_arms(file), store)
    assert "arms.matched: " in str(caught.value)
    assert "uzeful" in str(caught.value)
    assert "arms.bounded: " in str(caught.value)


def test_tasks_that_are_missing_are_said(file: Path, store: Store, folder: Path) -> None:
    base = (file.parent / "recipe.toml").read_text()
    gone = base.replace("reference.jsonl", "gone.jsonl")
    (file.parent / "recipe.toml").write_text(gone)
    with pytest.raises(UsageError, match=r"base: .*gone\.jsonl"):
        check_arms(read_arms(file), store)


def test_without_a_task_there_is_nothing_to_compare(file: Path, store: Store) -> None:
    table = to_table(read_arms(file).recipes["natural"])
    table["rewards"]["tasks"], table["selection"]["policy"] = {}, "sample"
    (file.parent / "recipe.toml").write_text(to_toml(table))
    file.write_text(TWO + "[arms.online]\n")
    with pytest.raises(UsageError, match="2 problem") as caught:
        check_arms(read_arms(file), store)
    assert "arms.online: the strategy 'console' needs a reference task" in str(caught.value)
    assert "base: it has no task to compare losses on" in str(caught.value)


def test_seeds_are_a_number_or_a_list() -> None:
    assert parse_seeds("3") == (0, 1, 2)
    assert parse_seeds("0,5, 7") == (0, 5, 7)
    assert parse_seeds("7,") == (7,)
    for text in ("0", "1001", "x", ""):
        with pytest.raises(UsageError, match="expected 1 to 1000, or a list"):
            parse_seeds(text)
    for text in ("1,1", "1,x", ",", "1,-2", f"1,{2**63}"):
        with pytest.raises(UsageError, match="expected different whole numbers"):
            parse_seeds(text)
