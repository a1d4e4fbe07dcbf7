"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeOption = Annotated[
    Path | None,
    typer.Option("--recipe", help="A TOML file, or the name of a shipped recipe.", metavar="FILE"),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one value of the recipe.", metavar="SECTION.KEY=VALUE"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
RunOption = Annotated[Path | None, typer.Option("--run", help="Follow the last round of a run.")]
ConsoleOption = Annotated[
    Path | None, typer.Option("--console", help="Follow a console state (JSON).")
]
StoreOption = Annotated[Path, typer.Option("--store", help="What `mads annotate` wrote.")]
OutOption = Annotated[Path, typer.Option("--out", help="The folder to write.")]
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
CorpusOption = Annotated[
    Path | None, typer.Option("--corpus", help="The corpus's folder, for --texts.")
]
MegatronOption = Annotated[
    bool, typer.Option("--megatron", help="Write their tokens as a Megatron data set.")
]
