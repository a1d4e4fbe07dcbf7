"""The command line: one thin function per command; a stage is imported only when it runs.

With ``--json`` the result is one object on stdout; words and tables go to stderr. Exit codes: 0
done, 1 data, 2 usage, 75 stopped by a signal with the work saved, 130 interrupted.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mads import __version__
from mads.errors import MadsError, UsageError
from mads.units import parse_count

if TYPE_CHECKING:
    from mads.config import Recipe
    from mads.store.store import Store

app = typer.Typer(
    name="mads",
    help="Decide what a language model reads next: multi-agent data selection for pretraining.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = 130

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
StoreOption = Annotated[Path, typer.Option("--store", help="What `mads annotate` wrote.")]


def main() -> None:
    """Run the command line; every error that a user can cause is one message, no traceback."""
    try:
        app()
    except MadsError as error:
        sys.stdout.flush()
        print(f"mads: {error}", file=sys.stderr)  # noqa: T201 - the one place
        sys.exit(error.exit_code)
    except OSError as error:  # no permission, no space: the machine's problem, and it says where
        print(f"mads: {error}", file=sys.stderr)  # noqa: T201 - the one place
        sys.exit(1)
    except (KeyboardInterrupt, SystemExit) as error:  # typer makes the one the other
        if isinstance(error, SystemExit) and error.code != INTERRUPTED:
            raise
        print("mads: interrupted; run the same command to go on.", file=sys.stderr)  # noqa: T201
        sys.exit(INTERRUPTED)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mads {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


@app.command()
def annotate(
    corpus: Annotated[
        list[Path], typer.Argument(help="Files or folders: .jsonl(.gz|.zst), .parquet.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The store to write.")],
    ram: Annotated[
        str,
        typer.Option("--ram", metavar="SIZE", help="For building the index, e.g. 4GB (index_ram)."),
    ] = "",
    recipe: RecipeOption = None,
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Label the whole corpus once: agents' memories, tokens and the cell index."""
    from mads.annotate.annotate import annotate as run
    from mads.recipe import load_recipe
    from mads.store.store import Store
    from mads.terminal import progress, say, show_cells

    begun = time.perf_counter()
    overrides = [*(changes or ()), *([f"index_ram={json.dumps(ram)}"] if ram else ())]
    with progress() as report:
        result = run(corpus, out, load_recipe(recipe, overrides), report)
    seconds = time.perf_counter() - begun
    value = {**dataclasses.asdict(result), "store": str(out), "seconds": seconds}
    if as_json:
        _print_json(value)
        return
    show_cells(Store(out).cells)
    for name, edges in result.edges.items():
        say(f"{name}: bins by quantiles begin at {', '.join(f'{edge:.6g}' for edge in edges)}.")
    statuses = ", ".join(f"{count:,} {name}" for name, count in result.statuses.items() if count)
    what = "was complete already" if not result.new_index else f"took {seconds:.1f} s"
    say(
        f"{out}: {result.rows:,} documents ({statuses}), {result.text_bytes / 1e6:,.1f} MB of "
        f"text, {result.tokens:,} tokens, {result.cells} cells; {what}."
    )


@app.command()
def train(
    store: StoreOption,
    out: Annotated[Path, typer.Option("--out", help="The run to write, or to go on with.")],
    recipe: RecipeOption = None,
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pretrain a model; its feedback decides what it reads next. The same call resumes."""
    from mads.codec import to_json
    from mads.recipe import load_recipe
    from mads.store.store import Store
    from mads.terminal import RunView, say, show_weights

    settings = load_recipe(recipe, changes or ())
    opened = Store(store)
    say("loading torch …")
    from mads.run.loop import train as run

    begun = time.perf_counter()
    with RunView(settings.training.steps) as view:
        result = run(opened, out, settings, view)
    seconds = time.perf_counter() - begun
    if as_json:
        _print_json({"run": str(out), **to_json(result), "seconds": seconds})
        return
    show_weights(result.theta, result.weights)
    say(
        f"{out}: {result.steps} steps, {result.tokens:,} tokens, {result.rounds} rounds; "
        f"{seconds:.0f} s."
    )


@app.command()
def select(
    store: StoreOption,
    out: Annotated[Path | None, typer.Option("--out", help="The folder to write.")] = None,
    tokens: Annotated[
        str, typer.Option("--tokens", help="The budget in tokens, e.g. 5M or 1.5B.")
    ] = "",
    docs: Annotated[str, typer.Option("--docs", help="The budget in documents, e.g. 10K.")] = "",
    fraction: Annotated[
        float, typer.Option("--fraction", help="The budget as a share of the corpus's tokens.")
    ] = 0.0,
    run: RunOption = None,
    console: Annotated[
        Path | None, typer.Option("--console", help="Follow a console state (JSON).")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="Write a part of this selection (plan.json).")
    ] = None,
    shard: Annotated[
        str, typer.Option("--shard", metavar="I/N", help="Which part, i from 0; with --plan.")
    ] = "",
    texts: Annotated[
        bool, typer.Option("--texts", help="Write the documents, in the corpus's own layout.")
    ] = False,
    megatron: Annotated[
        bool, typer.Option("--megatron", help="Write their tokens as a Megatron data set.")
    ] = False,
    what_if: Annotated[
        str,
        typer.Option(
            "--what-if",
            metavar="AGENT=FACTOR,…",
            help="Multiply θ of agents; show what would be selected, write nothing.",
        ),
    ] = "",
    recipe: RecipeOption = None,
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Select documents by the console's score until the budget is reached."""
    from mads.export.command import Exports, Request, select_and_write, write_shard
    from mads.report.what_if import try_what_if
    from mads.store.store import Store
    from mads.terminal import progress, show_selection, show_shares

    if sum(source is not None for source in (run, console, plan)) != 1:
        raise UsageError("give one of --run RUN, --console console.json and --plan plan.json.")
    if (plan is None) != (not shard):
        raise UsageError("--plan plan.json and --shard i/n go together.")
    if plan is not None:
        foreign = {"--tokens": tokens, "--docs": docs, "--fraction": fraction}
        foreign |= {"--what-if": what_if, "--recipe": recipe, "--set": changes}
        _refuse_with_plan(foreign)
    elif sum(map(bool, (tokens, docs, fraction))) != 1:
        raise UsageError("give one of --tokens 5M, --docs 10K and --fraction 0.1.")
    if (out is None) != bool(what_if) or (what_if and (texts or megatron)):
        raise UsageError("give either --out DIR, or --what-if, which writes nothing.")
    opened = Store(store)
    begun = time.perf_counter()
    with progress() as report:
        exports = Exports(texts, megatron, lambda i, n: report("write texts", i, n))
        if plan is not None:
            assert out is not None
            result = write_shard(opened, plan, shard, out, exports)
        else:
            settings = _select_recipe(run, recipe, changes)
            if docs:
                budget = parse_count(docs, "--docs")
            else:
                budget = parse_count(tokens) if tokens else _part_of(opened, fraction)
            request = Request(opened, run, console, budget, "docs" if docs else "tokens", settings)
            if what_if:
                result = try_what_if(request, what_if)
            else:
                assert out is not None
                result = select_and_write(request, out, exports)
    result["seconds"] = time.perf_counter() - begun
    if as_json:
        _print_json(result)
    elif what_if:
        show_shares(result["composition"], ("as it is", what_if))
    else:
        show_selection(result)


@app.command()
def explain(
    store: Annotated[Path, typer.Argument(help="What `mads annotate` wrote.")],
    document: Annotated[str, typer.Argument(help="A document's number, or file:row (from 0).")],
    run: Annotated[Path, typer.Option("--run", help="What `mads train` wrote.")],
    as_json: JsonOption = False,
) -> None:
    """Tell why a document was selected or not: labels, weights, score and rank by round."""
    from mads.report.explain import explain as run_explain
    from mads.report.explain import find_document
    from mads.store.store import Store
    from mads.terminal import show_explanation

    opened = Store(store)
    found = run_explain(opened, run, find_document(opened, document))
    if as_json:
        _print_json(found)
        return
    show_explanation(found)


@app.command()
def diff(
    a: Annotated[Path, typer.Argument(help="A selection's folder, or a console.json.")],
    b: Annotated[Path, typer.Argument(help="Another one.")],
    as_json: JsonOption = False,
) -> None:
    """Compare two selections (documents, tokens, composition) or two console states (θ, w)."""
    from mads.report.diff import diff_consoles, diff_selections
    from mads.terminal import show_console_diff, show_selection_diff

    for path in (a, b):
        if not path.exists():
            raise UsageError(f"{path} does not exist.")
    if a.is_dir() != b.is_dir():
        raise UsageError("give two folders of selections, or two console.json files.")
    found = diff_selections(a, b) if a.is_dir() else diff_consoles(a, b)
    if as_json:
        _print_json(found)
    elif a.is_dir():
        show_selection_diff(found)
    else:
        show_console_diff(found)


@app.command()
def harvest(
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    seed: Annotated[int, typer.Option("--seed", help="Which files are taken and held out.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Make a corpus and a reference task from what is installed with mads (for the demo)."""
    from mads.demo.harvest import harvest as run
    from mads.terminal import say, table

    summary = run(out, seed)
    if as_json:
        _print_json({"out": str(out), **dataclasses.asdict(summary)})
        return
    rows = [
        [name, f"{docs:,}", f"{summary.num_bytes[name] / 1e6:.2f}"]
        for name, docs in summary.num_docs.items()
    ]
    table("Corpus", ["domain", "documents", "MB"], rows)
    say(f"{out}: corpus/ and reference.jsonl with {summary.num_reference} held-out items.")


fit_app = typer.Typer(no_args_is_help=True, help="Fit an agent's model.")
app.add_typer(fit_app, name="fit")


@fit_app.command("influence")
def fit_influence(
    store: StoreOption,
    run: Annotated[Path, typer.Option("--run", help="The run whose rewards are learned.")],
    out: Annotated[Path, typer.Option("--out", help="The model to write, e.g. influence.bin.")],
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="The latest ones.")] = 3,
    bins: Annotated[int, typer.Option("--bins", min=2, max=100, help="Categories.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Learn rewards from texts; with it as an agent, `mads annotate` adds its memory."""
    from mads.rewards.influence import fit_influence as fit
    from mads.run.reader import Run
    from mads.store.store import Store
    from mads.terminal import say

    found = fit(Store(store), Run(run).latest_rewards(rounds), str(run), out, bins)
    if as_json:
        _print_json(dataclasses.asdict(found))
        return
    say(
        f"{out}: fitted to {found.documents:,} documents of {len(found.rounds)} round(s); rank "
        f"correlation {found.spearman:.2f} on {found.held_out:,} held-out ones. To use it, add\n\n"
        f'  [agents.influence]\n  backend = "fasttext"\n  model = "{out}"\n\n'
        "to the recipe, and run the same `mads annotate` again: it adds this memory only."
    )


def _select_recipe(run: Path | None, recipe: Path | None, changes: list[str] | None) -> Recipe:
    """Return the run's own recipe unless another one is given."""
    from mads.layout import RunDir
    from mads.recipe import load_recipe

    if recipe is None and run is not None and RunDir(run).recipe.is_file():
        recipe = RunDir(run).recipe
    return load_recipe(recipe, changes or ())


def _refuse_with_plan(options: dict[str, object]) -> None:
    """Raise UsageError for an option that --plan would have to ignore."""
    given = [name for name, value in options.items() if value]
    if given:
        raise UsageError(
            f"{', '.join(given)}: does not go with --plan. A part is cut from the plan as it "
            "stands; run `mads select` anew for another plan."
        )


def _part_of(store: Store, fraction: float) -> int:
    if not 0 < fraction <= 1:
        raise UsageError(f"--fraction {fraction:g}: expected more than 0 and at most 1.")
    return max(1, round(fraction * int(store.cells.num_tokens_C.sum())))


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + os.linesep)
