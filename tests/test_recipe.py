"""The recipe is strict, says all that is wrong at once, and survives being written and read."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mads.agents.column import ColumnConfig
from mads.agents.fasttext_agent import FastTextConfig
from mads.config import TrainingConfig
from mads.console.bayes import BayesConfig
from mads.errors import DataError, UsageError
from mads.files import write_sealed_json
from mads.recipe import load_recipe, recipe_from_table, shipped_recipes, to_table, to_toml
from mads.rewards.sections import ForwardConfig
from mads.units import parse_bytes


def problems(table: dict[str, Any]) -> str:
    with pytest.raises(UsageError) as error:
        recipe_from_table(table, "r.toml")
    assert error.value.exit_code == 2
    return str(error.value)


def test_an_empty_recipe_has_the_defaults_and_three_agents() -> None:
    recipe = recipe_from_table({}, "r.toml")
    agent = FastTextConfig("fasttext")
    assert recipe.agents == dict.fromkeys(("quality", "domain", "topic"), agent)
    assert recipe.training == TrainingConfig()
    assert recipe.console == BayesConfig("bayes")
    assert recipe.rewards == ForwardConfig("forward")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"trainin": {}}, "trainin: unknown key; did you mean 'training'?"),
        (
            {"training": {"learning_rte": 1}},
            "training.learning_rte: unknown key; did you mean 'learning_rate'?",
        ),
        (
            {"console": {"zzz": 1}},
            'console.zzz: unknown key under rule = "bayes"; known: agents, explore, half_life',
        ),
        (
            {"agents": {"a": {"modle": "x"}}},
            "agents.a.modle: unknown key under backend = \"fasttext\"; did you mean 'model'?",
        ),
        (
            {"selection": {"policy": "samle"}},
            "selection.policy: 'samle' is not known; did you mean 'sample'?",
        ),
        ({"selection": {"policy": 3}}, "selection.policy: found 3, expected a text"),
        ({"seed": "1"}, "seed: found '1', expected a whole number"),
        ({"seed": True}, "seed: found True, expected a whole number"),
        ({"seed": 1.0}, "seed: found 1.0, expected a whole number"),
        ({"training": {"learning_rate": "x"}}, "learning_rate: found 'x', expected a number"),
        ({"training": {"learning_rate": True}}, "learning_rate: found True, expected a number"),
        ({"training": {"compile": 1}}, "training.compile: found 1, expected true or false"),
        ({"corpus": {"text_field": 1}}, "corpus.text_field: found 1, expected a text"),
        ({"corpus": 5}, "corpus: found 5, expected a section"),
        ({"agents": 5}, "agents: found 5, expected a section"),
        ({"agents": {"a": 5}}, "agents.a: found 5, expected a section"),
        ({"training": {"betas": 0.9}}, "training.betas: found 0.9, expected a list of a number"),
        ({"training": {"betas": [0.9, "x"]}}, "training.betas[1]: found 'x', expected a number"),
        (
            {"training": {"betas": [0.9]}},
            "training.betas: found [0.9], expected a list of 2",
        ),
        (
            {"agents": {"a": {"backend": "column", "rename": {"x": 1}}}},
            "agents.a.rename.x: found 1, expected a text",
        ),
        ({"training": {"steps": 0}}, "training.steps: found 0, expected 1 to"),
        ({"training": {"learning_rate": float("nan")}}, "training.learning_rate: found nan"),
        ({"tokenizer": {"vocab_size": 258}}, "tokenizer.vocab_size: found 258, expected 259 to"),
        ({"selection": {"decay": -0.1}}, "selection.decay: found -0.1, expected 0 to"),
        ({"training": {"grad_clip": -1.0}}, "training.grad_clip: found -1.0, expected 0 to"),
        ({"training": {"keep_checkpoints": -1}}, "training.keep_checkpoints: found -1, expected 0"),
        (
            {"training": {"min_lr_ratio": -5.0}},
            "training.min_lr_ratio: found -5.0, expected 0 to 1",
        ),
        ({"training": {"betas": [0.9, 1]}}, "betas[1]: found 1.0, expected 0 to 0.999999"),
        (
            {"selection": {"min_share": {"domain": {"code": 1.5}}}},
            "selection.min_share.domain.code: found 1.5, expected 0 to 1",
        ),
        (
            {"selection": {"max_share": {"domain": {"code": -0.5}}}},
            "selection.max_share.domain.code: found -0.5, expected 0 to 1",
        ),
        (
            {"console": {"prior": {"domain": {"code": -1e200}}}},
            "console.prior.domain.code: found -1e+200, expected -1e+100 to 1e+100",
        ),
        (
            {"console": {"prior": {"domain": {"code": 1e200}}}},
            "console.prior.domain.code: found 1e+200, expected -1e+100 to 1e+100",
        ),
        ({"selection": {"threads": -3}}, "selection.threads: found -3, expected 0 to"),
        (
            {"model": {"hidden_size": 6, "num_heads": 2}},
            "model.hidden_size: 6 / model.num_heads (2) is odd; rotary positions need an even",
        ),
        (
            {"rewards": {"tasks": {"a": {"weight": 0.0}}}},
            "rewards.tasks.a.weight: found 0.0, expected 1e-12 to 1e+12",
        ),
        (
            {"evaluation": {"tasks": {"a": {"num_examples": -1}}}},
            "evaluation.tasks.a.num_examples: found -1, expected 0 to 1.09951e+12",
        ),
        (
            {"rewards": {"tasks": {"a": {}}}, "evaluation": {"tasks": {"a": {}}}},
            "evaluation.tasks.a: rewards.tasks has this name too; take another",
        ),
        ({"index_ram": "much"}, "index_ram: 'much' is not a size; write 4GB, say."),
        ({"selection": {"ram": "-1GB"}}, "selection.ram: '-1GB' is not a size"),
        (
            {"training": {"batch_tokens": 100, "context": 64}},
            "training.batch_tokens: 100 is not a multiple of training.context (64)",
        ),
        (
            {"model": {"hidden_size": 10, "num_heads": 4}},
            "model.hidden_size: 10 is not a multiple of model.num_heads (4)",
        ),
        (
            {"agents": {"a": {"backend": "colunm"}}},
            "agents.a.backend: 'colunm' is not known; did you mean 'column'?",
        ),
        ({"console": {"rule": "stabel"}}, "console.rule: 'stabel' is not known; did you mean 'st"),
        (
            {"strategy": "bandit"},
            "strategy: 'bandit' is not known; known: console, fixed, mixt",
        ),
        ({"corpus": {"executor": "pbs"}}, "corpus.executor: 'pbs' is not known; known: inline"),
        (
            {"console": {"rule": "paper", "half_life": 2.0}},
            'console.half_life: unknown key under rule = "paper"; known:',
        ),
        (
            {"rewards": {"estimator": "gradient", "epsilon": 1e-3}},
            'rewards.epsilon: unknown key under estimator = "gradient"; ',
        ),
        ({"agents": {"cell": {}}}, "agents.cell: this name is a column of mads's own files; take"),
        ({"agents": {"reward_squad": {}}}, "agents.reward_squad: this name is a column of mads's"),
        ({"agents": {"../x": {}}}, "agents.../x: a name has only a-z, 0-9, _ and -"),
        ({"agents": {"": {}}}, "agents.: a name has only"),
        ({"agents": {"a" * 65: {}}}, "64 of them at most"),
        ({"agents": {"Größe": {}}}, "agents.Größe: a name has only"),
        ({"rewards": {"tasks": {"a b": {}}}}, "rewards.tasks.a b: a name has only"),
        ({"evaluation": {"tasks": {"A": {}}}}, "evaluation.tasks.A: a name has only"),
    ],
)
def test_a_problem_is_named_with_its_place(table: dict[str, Any], message: str) -> None:
    text = problems(table)
    assert text.startswith("r.toml: 1 problem(s) in the recipe:")
    assert message in text


def test_all_problems_are_in_one_error() -> None:
    text = problems(
        {
            "sed": 1,
            "corpus": {"workers": "two", "shard_docs": 0},
            "training": {"steps": -1, "schedule": "linear"},
            "agents": {"doc": {"bakend": "column"}},
            "index_ram": "1XB",
        }
    )
    assert text.startswith("r.toml: 8 problem(s)")
    for place in (
        "sed",
        "corpus.workers",
        "corpus.shard_docs",
        "training.steps",
        "training.schedule",
        "agents.doc",
        "agents.doc.bakend",
        "index_ram",
    ):
        assert f"  - {place}: " in text


def test_a_bad_value_causes_no_second_problem() -> None:
    text = problems({"training": {"context": "long", "batch_tokens": 100}})
    assert text.count("  - ") == 1


def test_overrides_are_toml_or_bare_strings(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("seed = 1\n[training]\nsteps = 5\n")
    recipe = load_recipe(
        path,
        [
            "seed=7",
            "training.learning_rate=3e-4",
            "training.compile=true",
            "training.betas=[0.8, 0.9]",
            "tokenizer.name=org/some-tokenizer",
            'corpus.text_field="a=b"',
            "agents.domain.backend=column",
        ],
    )
    assert recipe.seed == 7
    assert recipe.training.steps == 5
    assert recipe.training.learning_rate == 3e-4
    assert recipe.training.compile is True
    assert recipe.training.betas == (0.8, 0.9)
    assert recipe.tokenizer.name == "org/some-tokenizer"
    assert recipe.corpus.text_field == "a=b"
    # A change of one default agent leaves the other two in place.
    assert set(recipe.agents) == {"quality", "domain", "topic"}
    assert recipe.agents["domain"].backend == "column"


def test_an_override_keeps_the_agents_of_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("[agents.mine]\n")
    recipe = load_recipe(path, ["agents.mine.model=x.bin"])
    assert recipe.agents == {"mine": FastTextConfig("fasttext", model="x.bin")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed", "--set 'seed' is not of the form section.key=value."),
        ("=1", "--set '=1' is not of the form section.key=value."),
        ("training..steps=1", "is not of the form section.key=value."),
        ("seed.x=1", "--set 'seed.x=1': 'seed' is a value, not a section."),
        ("training.stepz=1", "the command line: 1 problem(s) in the recipe:"),
    ],
)
def test_a_bad_override_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        load_recipe(None, ["seed=0", text])
    assert message in str(error.value)


def test_a_missing_recipe_names_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no\.toml' does not exist.* shipped recipe: .*demo"):
        load_recipe(tmp_path / "no.toml")


@pytest.mark.parametrize("content", [b"seed = ", b"\xff\xfe"])
def test_a_recipe_that_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"r\.toml is not valid TOML: "):
        load_recipe(path)


@pytest.mark.parametrize("place", ["seed", "training.steps"])
def test_a_number_of_thousands_of_digits_is_refused_with_its_place(
    tmp_path: Path, place: str
) -> None:
    digits = "9" * 5000
    path = tmp_path / "r.toml"
    path.write_text(f'strategy = "console"\n\n{place} = {digits}\n')
    message = r"r\.toml is not valid TOML: the number in line 3 has 5,000 digits\. Write a smaller"
    with pytest.raises(UsageError, match=message):
        load_recipe(path)
    message = rf"--set {place}: the value is not valid TOML: the number in line 1 has 5,000 digits"
    with pytest.raises(UsageError, match=message):
        load_recipe(None, [f"{place}={digits}"])


def test_an_override_of_thousands_of_brackets_is_refused() -> None:
    with pytest.raises(UsageError, match="--set seed: the value is not valid TOML: maximum recur"):
        load_recipe(None, ["seed=" + "[" * 100_000])


@pytest.mark.parametrize("place", ["seed", "evaluation.seed", "rewards.tasks.a.num_examples"])
@pytest.mark.parametrize(
    ("value", "shown"), [("-1", "-1"), ("0x" + "f" * 5000, "a number of more than 60 digits")]
)
def test_seeds_and_counts_have_a_range(place: str, value: str, shown: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(None, [f"{place}={value}"])
    assert f"{place}: found {shown}, expected 0 to " in str(caught.value)


def test_every_shipped_recipe_loads_by_name_and_survives_the_round_trip() -> None:
    names = shipped_recipes()
    assert "demo" in names
    for name in names:
        recipe = load_recipe(Path(name))
        assert recipe == load_recipe(Path(f"{name}.toml"))
        assert recipe_from_table(tomllib.loads(to_toml(to_table(recipe))), name) == recipe


def test_task_paths_count_from_the_recipe_and_keep_the_names_of_links(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text("{}\n")
    (tmp_path / "near.jsonl").symlink_to("blob")
    path = tmp_path / "r.toml"
    path.write_text(
        '[rewards.tasks.near]\npath = "near.jsonl"\n'
        '[rewards.tasks.hub]\npath = "org/name"\n'
        '[evaluation.tasks.held]\npath = "near.jsonl"\n'
        "[evaluation.tasks.empty]\n"
    )
    recipe = load_recipe(path)
    assert recipe.rewards.tasks["near"].path == str(tmp_path / "near.jsonl")
    assert recipe.rewards.tasks["hub"].path == "org/name"
    assert recipe.evaluation.tasks["held"].path == str(tmp_path / "near.jsonl")
    assert recipe.evaluation.tasks["empty"].path == ""


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * 10**9),
        ("1KiB", 1024),
        ("500 MiB", 500 * 2**20),
        ("1.5g", 1_500_000_000),
        ("12", 12),
        ("12B", 12),
        (" 2 TB ", 2 * 10**12),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "4XB", "4 4GB", "inf", "nan", "1e999", "-4GB", "0", "5IB"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size; write 4GB, say"):
        parse_bytes(text)


texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.one_of(
    texts, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)
)
tables = st.recursive(
    st.dictionaries(texts, scalars | st.lists(scalars)),
    lambda inner: st.dictionaries(texts, scalars | inner),
    max_leaves=12,
)


@given(tables)
def test_toml_survives_the_round_trip(table: dict[str, Any]) -> None:
    read = tomllib.loads(to_toml(table))
    # As JSON, because 1 == 1.0 == True in Python.
    assert json.dumps(read, sort_keys=True) == json.dumps(table, sort_keys=True)


@given(texts, texts, texts)
def test_a_recipe_survives_the_round_trip(field: str, value: str, category: str) -> None:
    agent = {"backend": "column", "field": field, "rename": {value: category}}
    recipe = recipe_from_table({"agents": {"a": agent}}, "r.toml")
    assert recipe_from_table(tomllib.loads(to_toml(to_table(recipe))), "r.toml") == recipe
    (agent_section,) = recipe.agents.values()
    assert isinstance(agent_section, ColumnConfig)
    assert agent_section.rename == {value: category}


@pytest.mark.parametrize("inner", ['{"domain": %s}', '{"weights": {"domain": %s}, "round": 3}'])
def test_a_prior_file_becomes_part_of_the_recipe(tmp_path: Path, inner: str) -> None:
    """Found beside the recipe; what the recipe itself says wins."""
    (tmp_path / "prior.json").write_text(inner % '{"C4": 2.0, "Book": 3}')
    table = {"console": {"prior_file": "prior.json", "prior": {"domain": {"Book": 0.5}}}}
    console = recipe_from_table(table, "r.toml", tmp_path).console
    assert console.prior == {"domain": {"C4": 2.0, "Book": 0.5}}
    assert console.prior_file == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"domain": 2}', 'holds no weights; expected {"agent": {"category": 1.5}}'),
        ('{"domain": {"C4": "2"}}', "but domain.C4: found '2', expected a number."),
        (
            '{"domain": {"C4": 1%s}}' % ("0" * 400),
            "but domain.C4: found a number of more than 60 digits, expected a number.",
        ),
        ('{"domain": {"C4": -1e101}}', "but domain.C4: found -1e+101, expected -1e+100 to 1"),
        ('{"domain": {"C4": NaN}}', "but domain.C4: found nan, expected a number."),
        ('{"domain": {"C4": 1%s}}' % ("0" * 5000), "prior.json is not JSON"),
        ("[1]", "holds no weights"),
        ("{", "prior.json is not JSON"),
        (None, "prior.json cannot be read: No such file or directory. Give a file that"),
    ],
)
def test_a_prior_file_that_cannot_be_used(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "prior.json").write_text(text)
    with pytest.raises(UsageError) as caught:
        recipe_from_table({"console": {"prior_file": "prior.json"}}, "r.toml", tmp_path)
    assert message in str(caught.value)


def test_the_console_of_another_run_gives_its_scores(tmp_path: Path) -> None:
    """θ is equal at the start of a run, so it becomes part of w: 3 agents' 0.5 is 1.5 times."""
    theta = {"domain": 0.5, "quality": 0.3, "topic": 0.2}
    weights = {"domain": {"C4": 2.0}, "quality": {"low": 1.0}, "topic": {"law": 5.0}}
    path = tmp_path / "console.json"
    write_sealed_json(path, {"round": 3, "theta": theta, "weights": weights})
    table = {"console": {"prior_file": "console.json"}}
    prior = recipe_from_table(table, "r.toml", tmp_path).console.prior
    assert prior["domain"]["C4"] == pytest.approx(3.0)
    assert prior["quality"]["low"] == pytest.approx(0.9)
    assert prior["topic"]["law"] == pytest.approx(3.0)
    for agent, own in prior.items():
        for name, w in own.items():
            assert w / 3 == pytest.approx(theta[agent] * weights[agent][name])
    write_sealed_json(path, {"round": 3, "theta": {"domain": "x"}, "weights": weights})
    with pytest.raises(UsageError, match=r"theta\.domain: found 'x', expected a number"):
        recipe_from_table(table, "r.toml", tmp_path)


def test_the_console_of_another_run_is_a_prior_unless_it_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "console.json"
    write_sealed_json(path, {"round": 3, "theta": {}, "weights": {"domain": {"C4": 2.5}}})
    table = {"console": {"prior_file": "console.json"}}
    assert recipe_from_table(table, "r.toml", tmp_path).console.prior == {"domain": {"C4": 2.5}}
    path.write_text(path.read_text().replace("2.5", "3.5"))
    with pytest.raises(DataError, match=r"console\.json was changed: .* remove its 'sha256'"):
        recipe_from_table(table, "r.toml", tmp_path)
