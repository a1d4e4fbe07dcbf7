"""The options and arguments that take a path, or that several commands share, and what they ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mads.errors import UsageError
from mads.units import parse_budget

if TYPE_CHECKING:
    from mads.config import Recipe
    from mads.corpus.places import Place
    from mads.export.command import Exports
    from mads.selection.plan import Cursors
    from mads.store.store import Store
    from mads.strategies.strategy import Strategy
    from mads.units import Budget


def given_path(text: str) -> Path:
    """Return a path; an empty one, which would be the current folder, is refused."""
    if not text:
        raise typer.BadParameter(
            'found an empty path (""), expected a file or a folder. Is a variable in the command '
            "unset? The current folder is written as a dot."
        )
    return Path(text)


def given_text(text: str) -> str:
    """Return a path, pattern or address as it was written; an empty one is refused."""
    given_path(text)
    return text


def given_place(text: str) -> Place:
    """Return a path or an address."""
    from mads.corpus.places import place_of

    return place_of(given_text(text))


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
PriorOption = Annotated[
    list[str] | None,
    typer.Option(
        "--prior",
        metavar="AGENT.CATEGORY=W",
        help="Without a run: a category's weight; those not named have 1. May be given again.",
    ),
]
PriorFileOption = Annotated[
    Path | None,
    _path_option("--prior-file", "Without a run: weights as `mads fit prior` writes them.", "FILE"),
]
ConsoleOption = Annotated[Path | None, _path_option("--console", "Follow a console state (JSON).")]
StoreOption = Annotated[Path, _path_option("--store", "What `mads annotate` wrote.")]
OutOption = Annotated[Path, _path_option("--out", "The folder to write.")]
NewStoreOption = Annotated[Path, _path_option("--out", "The store to write.")]
NewRunOption = Annotated[Path, _path_option("--out", "The run to write, or to go on with.")]
SourceOption = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="RUN[@STEP]",
        help="Branch from a checkpoint of another run on this store (the latest, or of a step): "
        "the same past, then this recipe, which is that run's but for --recipe and --set. The "
        "model, the strategy, tasks and batches must be the same; training.steps counts from "
        "the start.",
    ),
]
NewComparisonOption = Annotated[
    Path, _path_option("--out", "The comparison to write, or to go on with.")
]
ArmsArgument = Annotated[Path, _path_argument("A base recipe and its arms (TOML).", "ARMS.toml")]
SeedsOption = Annotated[
    str, typer.Option("--seeds", metavar="N|LIST", help="How many seeds, or which: 0,1,2.")
]
JobsOption = Annotated[
    int, typer.Option("--jobs", min=1, max=1024, help="Runs at a time; they share the cores.")
]
GenerationOption = Annotated[
    int | None,
    typer.Option("--generation", min=1, help="Of the store, for a new run; else the newest."),
]
ModelArgument = Annotated[
    Path, _path_argument("What `mads train` wrote, or a Hugging Face folder.", "RUN|HF_FOLDER")
]
TasksOption = Annotated[
    str, typer.Option("--tasks", metavar="A,B", help="Which tasks; without it all of them.")
]
ShotsOption = Annotated[
    str, typer.Option("--shots", metavar="LIST", help="Numbers of few-shot examples.")
]
LimitOption = Annotated[
    int, typer.Option("--limit", min=0, metavar="N", help="Items of each task; 0 = all.")
]
BatchOption = Annotated[
    int, typer.Option("--batch-size", min=1, max=2**20, metavar="B", help="Texts at a time.")
]
DataOption = Annotated[
    Path | None, _path_option("--data", "The folder with the tasks' files; else the Hub.")
]
NewResultOption = Annotated[Path | None, _path_option("--out", "A JSON file to write.", "FILE")]
NewModelOption = Annotated[Path, _path_option("--out", "The model to write, e.g. influence.bin.")]
NewArraysOption = Annotated[
    Path, _path_option("--out", "The model to write, e.g. topics.safetensors; its card beside it.")
]
SampleOption = Annotated[
    int, typer.Option("--docs", min=1, help="Documents of the store that are read, at most.")
]
FitSeedOption = Annotated[
    int, typer.Option("--seed", min=0, max=2**63 - 1, help="Of the sample and of the fit.")
]
NewPriorOption = Annotated[Path, _path_option("--out", "The prior to write, e.g. prior.json.")]
MethodOption = Annotated[str, typer.Option("--method", help="The way: matching or regmix.")]
ProxiesOption = Annotated[
    int, typer.Option("--proxies", min=8, max=9999, help="Random mixtures, for regmix.")
]
ProxiesFolderOption = Annotated[
    Path | None,
    _path_option("--work", "Where proxies are trained; without it, beside --out."),
]
RewardsRunOption = Annotated[Path, _path_option("--run", "The run whose rewards are learned.")]
ExplainRunOption = Annotated[Path, _path_option("--run", "What `mads train` wrote.")]
PlanOption = Annotated[Path, _path_option("--plan", "The selection's plan.json.")]
CorpusArgument = Annotated[
    list[str],
    typer.Argument(
        parser=given_text,
        metavar="CORPUS",
        help="Files, folders, 'patterns*', s3:// addresses, @LIST or - for such lines on stdin.",
    ),
]
StatusArgument = Annotated[Path, _path_argument("What `mads train` writes.", "RUN")]
MadeArgument = Annotated[
    Path, _path_argument("What `mads train` or `mads annotate` writes.", "RUN|STORE")
]
TrackerOption = Annotated[
    str,
    typer.Option(
        "--to", metavar="NAME", help="The tracker: tensorboard, wandb, mlflow or trackio."
    ),
]
ProjectOption = Annotated[
    str, typer.Option("--project", help="What the tracker calls the project or experiment.")
]
FollowOption = Annotated[
    bool, typer.Option("--follow", help="Go on until the run has ended; Ctrl-C stops it.")
]
StoreArgument = Annotated[Path, _path_argument("What `mads annotate` wrote.", "STORE")]
ReportedArgument = Annotated[
    Path, _path_argument("What `mads train` or `mads compare` wrote.", "RUN|COMPARISON")
]
ReportStoreOption = Annotated[
    Path | None, _path_option("--store", "Its store: for compositions, labels and documents.")
]
PageOption = Annotated[Path, _path_option("--out", "The page to write.", "FILE.html")]
FiguresOption = Annotated[
    Path | None, _path_option("--svg", "Write the main figures into this folder, too.", "DIR")
]
OneArgument = Annotated[Path, _path_argument("A selection's folder, or a console.json.", "A")]
OtherArgument = Annotated[Path, _path_argument("Another one.", "B")]
RecipeArgument = Annotated[
    str, typer.Argument(metavar="[NAME]", help="A shipped recipe, or a TOML file.")
]
SchemaOption = Annotated[
    bool, typer.Option("--schema", help="Print a JSON schema of recipes, for editors.")
]
PrintRecipeOption = Annotated[
    bool, typer.Option("--print-recipe", help="Print the whole recipe, resolved, and end.")
]
TurnTokensOption = Annotated[
    str,
    typer.Option("--tokens", metavar="N", help="What to select next, e.g. 1B, in whole batches."),
]
CheckpointOption = Annotated[
    Path | None,
    _path_option(
        "--checkpoint", "The model that has read the selection before: a Hugging Face folder."
    ),
]
OptimizerOption = Annotated[
    Path | None,
    _path_option(
        "--optimizer",
        "AdamW's moments, as checkpoints of `mads train` have them; without, estimates.",
        "FILE",
    ),
]
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
    Any,  # a Place or None; typer knows no unions
    typer.Option(
        "--corpus", parser=given_place, metavar="PATH", help="The corpus's folder, for --texts."
    ),
]
MegatronOption = Annotated[
    bool, typer.Option("--megatron", help="Write their tokens as a Megatron data set.")
]


def asked(
    store: Path,
    budget: tuple[str, str, str],
    run: Path | None,
    console: Path | None,
    recipe: Path | None,
    changes: list[str] | None,
    prior: Sequence[str] = (),
    prior_file: Path | None = None,
) -> tuple[Store, Strategy, Cursors, Budget, Recipe]:
    """Return what to select and what to follow; the recipe is the run's unless one is given.

    Without a run and without a console state it is what a run with the recipe would begin with.
    """
    from mads.layout import RunDir
    from mads.recipe import load_recipe, with_weights
    from mads.run.reader import followed, open_store
    from mads.run.ready import started
    from mads.selection.bounds import with_shares
    from mads.selection.plan import Cursors

    wanted = bool(prior or prior_file or recipe or changes)
    if run is not None and console is not None:
        raise UsageError("give one of --run RUN and --console console.json.")
    if run is None and console is None and not wanted:
        raise UsageError(
            "give --run RUN or --console console.json to follow, or what you prefer: --prior "
            "AGENT.CATEGORY=WEIGHT, --prior-file FILE, or a --recipe with a prior or a mixture."
        )
    if (prior or prior_file) and (run is not None or console is not None):
        raise UsageError("--prior says what to prefer without a run: leave out --run or --prior.")
    opened = open_store(store, run)
    if recipe is None and run is not None and RunDir(run).recipe.is_file():
        recipe = RunDir(run).recipe
    given = [f"console.prior_file={prior_file}"] if prior_file else []
    settings = with_weights(load_recipe(recipe, [*(changes or ()), *given]), prior)
    amount = parse_budget(*budget, lambda: int(opened.cells.num_tokens_C.sum()))
    if run is None and console is None:
        strategy, cursors = started(opened.cells, settings), Cursors.start(len(opened.cells))
    else:
        opened, strategy, cursors = followed(opened, run, console, settings)
    held = with_shares(settings.selection, strategy.shares)
    return opened, strategy, cursors, amount, replace(settings, selection=held)


def exports(
    store: Store,
    texts: bool,
    corpus: Place | None,
    megatron: bool,
    report: Callable[[str, int, int], None],
) -> Exports:
    """Return what to write beside a selection; --texts and --corpus go together."""
    from mads.export.command import Exports
    from mads.export.texts import flag

    if texts and corpus is None:
        raise UsageError(f"--texts needs the folder that the corpus is in: add {flag(store)}")
    if corpus is not None and not texts:
        raise UsageError("--corpus says where texts are read from: add --texts, or leave it out.")
    return Exports(corpus, megatron, lambda done, total: report("write texts", done, total))
