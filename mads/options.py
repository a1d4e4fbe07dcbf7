"""The options and arguments that take a path, or that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def given_path(text: str) -> Path:
    """Return a path; an empty one, which would be the current folder, is refused."""
    if not text:
        raise typer.BadParameter(
            'found an empty path (""), expected a file or a folder. Is a variable in the command '
            "unset? The current folder is written as a dot."
        )
    return Path(text)


def _path_option(name: str, text: str, metavar: str = "PATH") -> Any:
    return typer.Option(name, parser=given_path, metavar=metavar, help=text)


def _path_argument(text: str, metavar: str) -> Any:
    return typer.Argument(parser=given_path, metavar=metavar, help=text)


RecipeOption = Annotated[
    Path | None,
    _path_option("--recipe", "A TOML file, or the name of a shipped recipe.", "FILE"),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one value of the recipe.", metavar="SECTION.KEY=VALUE"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
RunOption = Annotated[Path | None, _path_option("--run", "Follow the last round of a run.")]
ConsoleOption = Annotated[Path | None, _path_option("--console", "Follow a console state (JSON).")]
StoreOption = Annotated[Path, _path_option("--store", "What `mads annotate` wrote.")]
OutOption = Annotated[Path, _path_option("--out", "The folder to write.")]
NewStoreOption = Annotated[Path, _path_option("--out", "The store to write.")]
NewRunOption = Annotated[Path, _path_option("--out", "The run to write, or to go on with.")]
NewModelOption = Annotated[Path, _path_option("--out", "The model to write, e.g. influence.bin.")]
NewPriorOption = Annotated[Path, _path_option("--out", "The prior to write, e.g. prior.json.")]
RewardsRunOption = Annotated[Path, _path_option("--run", "The run whose rewards are learned.")]
ExplainRunOption = Annotated[Path, _path_option("--run", "What `mads train` wrote.")]
PlanOption = Annotated[Path, _path_option("--plan", "The selection's plan.json.")]
CorpusArgument = Annotated[
    list[Path], _path_argument("Files or folders: .jsonl(.gz|.zst), .parquet.", "CORPUS")
]
StoreArgument = Annotated[Path, _path_argument("What `mads annotate` wrote.", "STORE")]
OneArgument = Annotated[Path, _path_argument("A selection's folder, or a console.json.", "A")]
OtherArgument = Annotated[Path, _path_argument("Another one.", "B")]
TokensOption = Annotated[
    str, typer.Option("--tokens", metavar="N", help="The budget in tokens, e.g. 5M or 1.5B.")
]
DocsOption = Annotated[
    str, typer.Option("--docs", metavar="N", help="The budget in documents, e.g. 10K.")
]
FractionOption = Annotated[
    str,
    typer.Option("--fraction", metavar="X", help="The budget as a share of the corpus's tokens."),
]
TextsOption = Annotated[
    bool, typer.Option("--texts", help="Write the documents, in the corpus's own layout.")
]
CorpusOption = Annotated[Path | None, _path_option("--corpus", "The corpus's folder, for --texts.")]
MegatronOption = Annotated[
    bool, typer.Option("--megatron", help="Write their tokens as a Megatron data set.")
]
