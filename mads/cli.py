"""The command line: one thin function per command; a stage is imported only when it runs.

With ``--json`` the result is one object on stdout; words and tables go to stderr. ``__main__``
has the entry point and the exit codes.
"""

from __future__ import annotations

import io
import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mads import __version__, options
from mads.cli_annotate import annotate
from mads.cli_fit import fit_app
from mads.errors import NO_MEMORY, DataError, MadsError, UsageError, lacks_memory, machine_problem

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

# typer's own errors; it has them from click, or from a copy of click that is not public.
_Wrong: Any = typer.BadParameter.__mro__[2]


def run_command() -> tuple[int, str]:
    """Run the command that the arguments name.

    Returns the exit code and, for an error that a user can cause, the message.
    """
    try:
        return app(standalone_mode=False) or 0, ""
    except MadsError as error:
        return error.exit_code, f"mads: {error}" if str(error) else ""
    except _Wrong as error:
        text = io.StringIO()
        error.show(file=text)
        return error.exit_code, text.getvalue().rstrip()
    except typer.Abort:
        return 130, ""
    except OSError as error:  # no permission, no space: the machine's problem, and it says where
        where = f"{error.filename}: " if error.filename is not None else ""
        return 1, f"mads: {where}{error.strerror or error}. {machine_problem(error)}".rstrip()
    except (MemoryError, ImportError) as error:
        if not lacks_memory(error):
            raise
        return 1, f"mads: {NO_MEMORY}"


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


app.command()(annotate)


@app.command()
def train(
    store: options.StoreOption,
    out: options.NewRunOption,
    recipe: options.RecipeOption = None,
    changes: options.SetOption = None,
    generation: options.GenerationOption = None,
    source: options.SourceOption = "",
    print_recipe: options.PrintRecipeOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Pretrain a model; its feedback decides what it reads next. The same call resumes."""
    from mads.codec import to_json
    from mads.layout import RunDir
    from mads.processes import hold_lifeline, place_of
    from mads.recipe import load_recipe
    from mads.run.branch import parse_source
    from mads.run.reader import Run, open_store
    from mads.run.ready import check_run
    from mads.run.watcher import Silent
    from mads.tables import show_weights
    from mads.terminal import RunView, loading, print_json, say

    if print_recipe:
        from mads.reference import commented

        sys.stdout.write(commented(load_recipe(recipe, changes or ())))
        return
    hold_lifeline()
    parent = parse_source(source) if source else None
    known = out if RunDir(out).provenance.is_file() else parent.run if parent else None
    if parent is not None and recipe is None and known is not None:
        recipe = Run(known).dir.recipe
    is_main = place_of()[0] == 0

    def read() -> tuple[Store, Recipe]:
        return open_store(store, known, generation), load_recipe(recipe, changes or ())

    ready = read() if is_main else None
    if ready is not None:  # of several processes the main one alone looks for what can be wrong
        check_run(ready[0], out, ready[1], parent)
    with loading("torch") if is_main else nullcontext():
        from mads.run import loop
        from mads.training.world import joined_world

    begun = time.perf_counter()
    with joined_world() as world:
        world.barrier()
        opened, settings = ready or read()
        if not is_main:
            loop.train(opened, out, settings, Silent(), world, parent)
            return
        with RunView(settings.training.steps) as view:
            result = loop.train(opened, out, settings, view, world, parent)
    seconds = time.perf_counter() - begun
    if as_json:
        print_json({"run": str(out), **to_json(result), "seconds": seconds})
        return
    show_weights(result.theta, result.weights)
    say(
        f"{out}: {result.steps} steps, {result.tokens:,} tokens, {result.rounds} rounds; "
        f"{seconds:.0f} s."
    )
    say(f"`mads report {out} --store {store}` shows it with figures.")


@app.command()
def step(
    store: options.StoreOption,
    out: options.NewRunOption,
    tokens: options.TurnTokensOption,
    checkpoint: options.CheckpointOption = None,
    optimizer: options.OptimizerOption = None,
    recipe: options.RecipeOption = None,
    changes: options.SetOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Take one turn of the circle by files, for a trainer of your own.

    It measures rewards on a checkpoint, updates the weights, and writes what to read next.
    """
    from mads.codec import to_json
    from mads.layout import RunDir
    from mads.recipe import load_recipe
    from mads.run.reader import Run, open_store
    from mads.run.turns import Checkpointed, check_turn
    from mads.tables import show_weights
    from mads.terminal import RunView, loading, print_json, say
    from mads.units import parse_count

    settings, count = load_recipe(recipe, changes or ()), parse_count(tokens)
    opened = open_store(store, out if RunDir(out).provenance.is_file() else None)
    given = Checkpointed(checkpoint, optimizer) if checkpoint else None
    check_turn(opened, out, settings, count, given)
    with loading("torch"):
        from mads.run.turn import turn

    with RunView(settings.training.steps) as view:
        made = turn(opened, out, settings, count, given, view)
    if as_json:
        print_json({"run": str(out), **to_json(made)})
        return
    strategy = Run(out).rounds[made.round].strategy
    show_weights(strategy.theta, strategy.weights)
    was = " (it was there already)" if made.complete else ""
    say(
        f"{made.folder}: round {made.round}{was}, {made.num_docs:,} documents in parts, "
        f"{made.num_tokens:,} tokens: selection.parquet, tokens.bin, tokens.idx."
    )
    if made.moments == "estimated":
        say("second moments were estimated from gradients; --optimizer FILE gives AdamW's own.")


@app.command()
def compare(
    file: options.ArmsArgument,
    store: options.StoreOption,
    out: options.NewComparisonOption,
    seeds: options.SeedsOption = "3",
    jobs: options.JobsOption = 1,
    as_json: options.JsonOption = False,
) -> None:
    """Train arms on equal tokens, with several seeds, and compare them. The same call resumes."""
    from mads.codec import to_json
    from mads.experiments.arms import parse_seeds, read_arms
    from mads.experiments.comparison import comparison_folder, open_for_comparison, train_arms
    from mads.report import compare as report
    from mads.tables import show_comparison
    from mads.terminal import print_json, progress, say

    numbers, arms = parse_seeds(seeds), read_arms(file)
    opened = open_for_comparison(store, out)
    with comparison_folder(out, opened, arms) as folder:
        with progress() as show:
            train_arms(folder, opened, arms, numbers, jobs, show)
        found = report.compare(opened, folder, arms, numbers)
        report.write_comparison(folder.comparison, found)
    if as_json:
        print_json(to_json(found))
        return
    show_comparison(out, found)
    say(f"`mads report {out}` shows it with figures.")


@app.command()
def select(
    store: options.StoreOption,
    out: options.OutOption,
    tokens: options.TokensOption = "",
    docs: options.DocsOption = "",
    fraction: options.FractionOption = "",
    run: options.RunOption = None,
    console: options.ConsoleOption = None,
    prior: options.PriorOption = None,
    prior_file: options.PriorFileOption = None,
    texts: options.TextsOption = False,
    corpus: options.CorpusOption = None,
    megatron: options.MegatronOption = False,
    recipe: options.RecipeOption = None,
    changes: options.SetOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Select documents by the console's score until the budget is reached."""
    from mads.codec import to_json
    from mads.export.command import Followed, Request, select_and_write
    from mads.tables import show_selected
    from mads.terminal import print_json, progress

    begun = time.perf_counter()
    asked = options.asked(
        *(store, (tokens, docs, fraction), run, console, recipe, changes, prior or (), prior_file)
    )
    opened, strategy, cursors, budget, settings = asked
    follow = Followed(strategy.scores(opened.cells), strategy.to_json(), cursors)
    with progress() as report:
        exports = options.exports(opened, texts, corpus, megatron, report)
        result = select_and_write(opened, Request(follow, budget, settings), out, exports)
    seconds = time.perf_counter() - begun
    if as_json:
        print_json({**to_json(result), "seconds": seconds})
        return
    show_selected(result, seconds)


@app.command("what-if")
def what_if(
    store: options.StoreOption,
    theta: Annotated[
        str, typer.Option("--theta", metavar="AGENT=FACTOR,…", help="Multiply θ of agents.")
    ],
    tokens: options.TokensOption = "",
    docs: options.DocsOption = "",
    fraction: options.FractionOption = "",
    run: options.RunOption = None,
    console: options.ConsoleOption = None,
    prior: options.PriorOption = None,
    prior_file: options.PriorFileOption = None,
    recipe: options.RecipeOption = None,
    changes: options.SetOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show what `mads select` would select under other θ; write nothing."""
    from mads.codec import to_json
    from mads.report.what_if import try_what_if
    from mads.tables import show_shares
    from mads.terminal import print_json

    asked = options.asked(
        *(store, (tokens, docs, fraction), run, console, recipe, changes, prior or (), prior_file)
    )
    found = try_what_if(*asked, theta)
    if as_json:
        print_json(to_json(found))
        return
    show_shares(found.composition, ("as it is", theta))


@app.command()
def part(
    store: options.StoreOption,
    plan: options.PlanOption,
    shard: Annotated[str, typer.Option("--shard", metavar="I/N", help="Which part, i from 0.")],
    out: options.OutOption,
    texts: options.TextsOption = False,
    corpus: options.CorpusOption = None,
    megatron: options.MegatronOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Write one of N disjoint parts of a selection, from its plan alone."""
    from mads.codec import to_json
    from mads.export.command import plan_generation, write_part
    from mads.store.store import Store
    from mads.tables import show_part
    from mads.terminal import print_json, progress

    begun = time.perf_counter()
    opened = Store(store, plan_generation(plan))
    with progress() as report:
        exports = options.exports(opened, texts, corpus, megatron, report)
        result = write_part(opened, plan, shard, out, exports)
    seconds = time.perf_counter() - begun
    if as_json:
        print_json({**to_json(result), "seconds": seconds})
        return
    show_part(result, seconds)


@app.command()
def explain(
    store: options.StoreArgument,
    document: Annotated[str, typer.Argument(help="A document's number, or file:row (from 0).")],
    run: options.ExplainRunOption,
    as_json: options.JsonOption = False,
) -> None:
    """Tell why a document was selected or not: labels, weights, score and rank by round."""
    from mads.codec import to_json
    from mads.report import explain as report
    from mads.run.reader import open_store
    from mads.tables import show_explanation
    from mads.terminal import print_json

    opened = open_store(store, run)
    found = report.explain(opened, run, report.find_document(opened, document))
    if as_json:
        print_json(to_json(found))
        return
    show_explanation(found)


@app.command()
def status(made: options.MadeArgument, as_json: options.JsonOption = False) -> None:
    """Tell how a run or a store stands, while it is made, here or elsewhere, and after."""
    from mads.codec import to_json
    from mads.layout import kind_of
    from mads.report.status import status as read_status
    from mads.report.store_status import store_status
    from mads.tables import show_status, show_store_status
    from mads.terminal import print_json

    if kind_of(made) == "a store":
        store = store_status(made)
        print_json(to_json(store)) if as_json else show_store_status(store)
        return
    found = read_status(made)
    print_json(to_json(found)) if as_json else show_status(found)


@app.command()
def track(
    run: options.StatusArgument,
    to: options.TrackerOption,
    follow: options.FollowOption = False,
    project: options.ProjectOption = "mads",
    as_json: options.JsonOption = False,
) -> None:
    """Replay what a run has measured to a tracker; a second call sends what is new."""
    from mads.codec import to_json
    from mads.layout import check_kind
    from mads.terminal import print_json, say
    from mads.track import replay

    check_kind(run, "a run")
    found = replay.track(run, to, project, follow=follow, note=lambda text: say(f"note: {text}"))
    if as_json:
        print_json(to_json(found))
        return
    say(f"{run}: {found.records:,} records sent to {to}, up to step {found.step:,}.")


@app.command()
def diff(
    a: options.OneArgument,
    b: options.OtherArgument,
    as_json: options.JsonOption = False,
) -> None:
    """Compare two selections (documents, tokens, composition) or two console states (θ, w)."""
    from mads.codec import to_json
    from mads.report.diff import diff_consoles, diff_selections
    from mads.tables import show_console_diff, show_selection_diff
    from mads.terminal import print_json

    for path in (a, b):
        if not path.exists():
            raise UsageError(f"{path} does not exist.")
    if a.is_dir() != b.is_dir():
        raise UsageError("give two folders of selections, or two console.json files.")
    if a.is_dir():
        selections = diff_selections(a, b)
        print_json(to_json(selections)) if as_json else show_selection_diff(selections)
    else:
        consoles = diff_consoles(a, b)
        print_json(to_json(consoles)) if as_json else show_console_diff(consoles)


@app.command()
def evaluate(
    model: options.ModelArgument,
    tasks: options.TasksOption = "",
    data: options.DataOption = None,
    shots: options.ShotsOption = "0,3,5",
    limit: options.LimitOption = 0,
    batch_size: options.BatchOption = 16,
    out: options.NewResultOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Measure what a model knows: bits per byte and accuracy on multiple-choice tasks."""
    from mads.codec import to_json
    from mads.evaluation.choices import parse_tasks
    from mads.files import write_sealed_json
    from mads.layout import refuse_inside
    from mads.tables import show_evaluation
    from mads.terminal import loading, print_json, progress

    names = parse_tasks(tasks)
    if out is not None:
        refuse_inside(out)
        if out.is_dir():
            raise UsageError(f"--out {out} is a folder. Give the file to write.")
    with loading("torch"):
        from mads.evaluation import evaluate as stage

    counts = stage.parse_shots(shots)
    with progress() as report:
        found = stage.evaluate(model, names, data, counts, limit, batch_size, report)
    if out is not None:
        write_sealed_json(out, to_json(found))
    print_json(to_json(found)) if as_json else show_evaluation(found)
    if tasks and found.missing:
        raise DataError(f"there is no data for {', '.join(found.missing)}, which --tasks asks for.")


@app.command()
def report(
    path: options.ReportedArgument,
    store: options.ReportStoreOption = None,
    out: options.PageOption = Path("report.html"),
    svg: options.FiguresOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show a run or a comparison, also one that goes on, as one HTML file with figures."""
    from mads.codec import to_json
    from mads.report.page.write import write_report
    from mads.terminal import print_json, say

    found = write_report(path, store, out, svg)
    if as_json:
        print_json(to_json(found))
        return
    say(f"{found.out}: {found.figures} figures, {found.num_bytes:,} bytes.")
    if svg is not None:
        say(f"{svg}: {len(found.svg)} SVG files.")


@app.command()
def recipe(
    name: options.RecipeArgument = "",
    schema: options.SchemaOption = False,
    changes: options.SetOption = None,
) -> None:
    """List the shipped recipes; print one with all its keys and what they mean, or the schema."""
    from mads.recipe import load_recipe, shipped_recipes
    from mads.reference import about_shipped, commented, json_schema

    if schema:
        sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
        return
    if name:
        sys.stdout.write(commented(load_recipe(Path(name), changes or ())))
        return
    for shipped in shipped_recipes():
        sys.stdout.write(f"{shipped:14}{about_shipped(shipped)}\n")
    sys.stdout.write("`mads recipe NAME > my.toml` writes one with all its keys, to be changed.\n")


@app.command()
def harvest(
    out: options.OutOption,
    seed: Annotated[int, typer.Option("--seed", help="Which files are taken and held out.")] = 0,
    as_json: options.JsonOption = False,
) -> None:
    """Make a corpus and a reference task from what is installed with mads (for the demo)."""
    from mads.codec import to_json
    from mads.demo import harvest as demo
    from mads.tables import show_harvest
    from mads.terminal import print_json

    summary = demo.harvest(out, seed)
    if as_json:
        print_json({"out": str(out), **to_json(summary)})
        return
    show_harvest(out, summary)


app.add_typer(fit_app, name="fit")
