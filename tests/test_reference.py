"""The reference of recipes: complete, as the code has it, and what it prints can be read back."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from command import mads

from mads.config import Recipe, TrainingConfig
from mads.recipe import CHOICES, load_recipe, recipe_from_table, shipped_recipes
from mads.reference import Key, commented, json_schema, markdown, meanings, sections

DOCS = Path(__file__).parents[1] / "docs" / "recipe.md"


def keys(name: str, kind: str = "") -> dict[str, Key]:
    (found,) = [one for one in sections() if (one.name, one.kind) == (name, kind)]
    return {key.name: key for key in found.keys}


def test_every_key_says_what_it_means() -> None:
    silent = [
        f"{section.name} {section.kind} {key.name}"
        for section in sections()
        for key in section.keys
        if not key.meaning or not key.type
    ]
    assert silent == []


def test_a_key_by_hand() -> None:
    steps = keys("training")["steps"]
    assert (steps.type, steps.default) == ("whole number", "800")
    assert (steps.range, steps.meaning) == ("1 to 2^40", "optimizer steps of the whole run")
    schedule = keys("training")["schedule"]
    assert schedule.type == '"cosine", "wsd", "constant"'
    assert schedule.schema == {"enum": ["cosine", "wsd", "constant"]}
    betas = keys("training")["betas"]
    assert (betas.type, betas.range) == ("list of number", "0 to 0.999999")
    assert keys("")["index_ram"].type == "size, e.g. 4GB"
    assert keys("rewards", 'estimator = "projected"').keys() == {"projection_dims"}


def test_every_kind_of_a_chosen_section_has_its_own() -> None:
    kinds = {one.kind for one in sections() if one.kind}
    assert kinds == {f'{c.key} = "{name}"' for c in CHOICES.values() for name in c.types}


def test_a_comment_of_several_lines_and_one_beside_are_one_meaning() -> None:
    assert meanings(TrainingConfig)["part_tokens"] == (
        "A document is read in parts of so many tokens, at most; 0 = four contexts"
    )


def test_the_page_is_that_of_the_code() -> None:
    assert DOCS.read_text(encoding="utf-8") == markdown(), "run `make docs`"


@pytest.mark.parametrize("name", shipped_recipes())
def test_what_is_printed_is_the_recipe_with_all_keys(name: str) -> None:
    recipe = load_recipe(Path(name))
    text = commented(recipe)
    assert recipe_from_table(tomllib.loads(text), name) == recipe
    assert "# optimizer steps of the whole run\nsteps = " in text


def allowed(schema: dict[str, object], table: dict[str, object], place: str = "") -> list[str]:
    """Return the keys of a table that a schema has not."""
    bad = []
    properties = schema.get("properties", {})
    assert isinstance(properties, dict)
    for name, value in table.items():
        found = properties.get(name, schema.get("additionalProperties", True))
        if found is False:
            bad.append(f"{place}{name}")
        elif isinstance(value, dict) and isinstance(found, dict):
            bad += allowed(found, value, f"{place}{name}.")
    return bad


@pytest.mark.parametrize("name", shipped_recipes())
def test_the_schema_allows_shipped_recipes_and_no_misspelt_key(name: str) -> None:
    schema = json_schema()
    table = tomllib.loads(commented(load_recipe(Path(name))))
    assert allowed(schema, table) == []
    table["training"]["stepps"] = 3
    table["agents"]["quality"]["backend_"] = "x"
    assert allowed(schema, table) == ["agents.quality.backend_", "training.stepps"]
    assert set(schema["properties"]) == set(Recipe.__dataclass_fields__)


def test_from_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = mads(capsys, "recipe")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[:-1]] == shipped_recipes()
    assert "demo          The embedded default: a corpus harvested" in out
    code, out, _ = mads(capsys, "recipe", "--schema")
    assert json.loads(out)["properties"]["seed"]["type"] == "integer"
    code, out, _ = mads(capsys, "recipe", "small", "--set", "training.steps=7")
    assert tomllib.loads(out)["training"]["steps"] == 7
    code, _, err = mads(capsys, "recipe", "smal")
    assert code == 2
    assert "recipe 'smal' does not exist. Give a TOML file or a shipped recipe" in err
    arguments = ("--store", "nowhere", "--out", "nowhere", "--recipe", "small", "--print-recipe")
    code, out, _ = mads(capsys, "train", *arguments)
    assert code == 0
    assert recipe_from_table(tomllib.loads(out), "") == load_recipe(Path("small"))
