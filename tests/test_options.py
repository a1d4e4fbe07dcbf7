"""The options that several commands share: the same names, kinds and help in each of them."""

from __future__ import annotations

from pathlib import Path

import typer
from typer.testing import CliRunner

from mads import options

NAMES = {
    "RecipeOption": "--recipe",
    "SetOption": "--set",
    "JsonOption": "--json",
    "RunOption": "--run",
    "ConsoleOption": "--console",
    "StoreOption": "--store",
    "OutOption": "--out",
    "NewStoreOption": "--out",
    "NewRunOption": "--out",
    "SourceOption": "--from",
    "TrackerOption": "--to",
    "ProjectOption": "--project",
    "FollowOption": "--follow",
    "NewComparisonOption": "--out",
    "SeedsOption": "--seeds",
    "JobsOption": "--jobs",
    "GenerationOption": "--generation",
    "TasksOption": "--tasks",
    "ShotsOption": "--shots",
    "LimitOption": "--limit",
    "BatchOption": "--batch-size",
    "DataOption": "--data",
    "NewResultOption": "--out",
    "NewModelOption": "--out",
    "NewArraysOption": "--out",
    "SampleOption": "--docs",
    "FitSeedOption": "--seed",
    "NewPriorOption": "--out",
    "MethodOption": "--method",
    "ProxiesOption": "--proxies",
    "ProxiesFolderOption": "--work",
    "RewardsRunOption": "--run",
    "ExplainRunOption": "--run",
    "PlanOption": "--plan",
    "PageOption": "--out",
    "FiguresOption": "--svg",
    "ReportStoreOption": "--store",
    "TokensOption": "--tokens",
    "TurnTokensOption": "--tokens",
    "CheckpointOption": "--checkpoint",
    "PriorOption": "--prior",
    "PriorFileOption": "--prior-file",
    "OptimizerOption": "--optimizer",
    "SchemaOption": "--schema",
    "PrintRecipeOption": "--print-recipe",
    "DocsOption": "--docs",
    "FractionOption": "--fraction",
    "TextsOption": "--texts",
    "CorpusOption": "--corpus",
    "MegatronOption": "--megatron",
}


def test_each_has_one_name_of_its_own_and_help_that_is_a_sentence() -> None:
    found = {name: value for name, value in vars(options).items() if name.endswith("Option")}
    assert {name: option.__metadata__[0].default for name, option in found.items()} == NAMES
    for option in found.values():
        help_text = option.__metadata__[0].help
        assert help_text[0].isupper()
        assert help_text.endswith(".")


def test_values_have_their_types() -> None:
    app = typer.Typer()
    seen: list[object] = []

    @app.command()
    def command(
        store: options.StoreOption,
        recipe: options.RecipeOption = None,
        changes: options.SetOption = None,
        tokens: options.TokensOption = "",
        texts: options.TextsOption = False,
    ) -> None:
        seen.extend([store, recipe, changes, tokens, texts])

    arguments = ["--store", "s", "--set", "a.b=1", "--set", "c=2", "--tokens", "5M", "--texts"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert seen == [Path("s"), None, ["a.b=1", "c=2"], "5M", True]
    assert CliRunner().invoke(app, ["--tokens", "5M"]).exit_code == 2  # a store must be given
    assert len(seen) == 5
