"""The command line: one thin function per command; a stage is imported only when it runs.

Results go to stdout (with ``--json`` as one object), words to stderr. Exit codes: 0 done, 1 data,
2 usage, 75 stopped by a signal with the work saved, 130 interrupted.
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

if TYPE_CHECKING:
    from mads.config import Recipe
    from mads.memory.store import Store

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
    recipe: RecipeOption = None,
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Label the whole corpus once: agents' memories, tokens and the cell index."""
    from mads.config import load_recipe
    from mads.memory.annotate import annotate as run
    from mads.memory.store import Store
    from mads.terminal import progress, say

    begun = time.perf_counter()
    with progress() as report:
        result = run(corpus, out, load_recipe(recipe, changes or ()), report)
    seconds = time.perf_counter() - begun
    value = {**dataclasses.asdict(result), "store": str(out), "seconds": seconds}
    if as_json:
        _print_json(value)
        return
    _show_store(Store(out))
    statuses = ", ".join(f"{count:,} {name}" for name, count in result.statuses.items() if count)
    what = "was complete already" if not result.new_shards else f"took {seconds:.1f} s"
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
    from mads.config import load_recipe
    from mads.memory.store import Store
    from mads.terminal import RunView, say

    settings = load_recipe(recipe, changes or ())
    opened = Store(store)
    say("loading torch …")
    from mads.loop import train as run

    begun = time.perf_counter()
    with RunView(settings.training.steps) as view:
        result = run(opened, out, settings, view)
    seconds = time.perf_counter() - begun
    if as_json:
        _print_json({"run": str(out), **result.to_json(), "seconds": seconds})
        return
    _show_weights(result.state.theta, result.state.weights)
    say(
        f"{out}: {result.steps} steps, {result.tokens:,} tokens, {result.rounds} rounds; "
        f"{seconds:.0f} s."
    )


@app.command()
def select(
    store: StoreOption,
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    tokens: Annotated[str, typer.Option("--tokens", help="The budget, e.g. 5M or 1.5B.")],
    run: Annotated[
        Path | None, typer.Option("--run", help="Follow the last round of a run.")
    ] = None,
    console: Annotated[
        Path | None, typer.Option("--console", help="Follow a console state (JSON).")
    ] = None,
    texts: Annotated[
        bool, typer.Option("--texts", help="Write the documents as jsonl.zst.")
    ] = False,
    recipe: RecipeOption = None,
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Select documents by the console's score until a token budget is reached."""
    from mads.memory.store import Store
    from mads.selection.command import select_by_console, select_by_run
    from mads.terminal import progress, say

    if (run is None) == (console is None):
        raise UsageError("give either --run RUN or --console console.json (and not both).")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty. Give another --out.")
    budget = parse_count(tokens)
    opened = Store(store)
    begun = time.perf_counter()
    settings = _select_recipe(run, recipe, changes)
    if run is not None:
        chosen = select_by_run(opened, run, budget, settings, out)
    else:
        assert console is not None
        chosen = select_by_console(opened, console, budget, settings, out)
    if texts:
        from mads.selection.export import write_texts

        with progress() as report:
            write_texts(
                opened, chosen.selection, out / "texts", lambda i, n: report("write texts", i, n)
            )
    selection = chosen.selection
    seconds = time.perf_counter() - begun
    if as_json:
        _print_json(
            {
                "out": str(out),
                "num_docs": len(selection.doc_N),
                "num_tokens": selection.num_tokens,
                "budget_tokens": budget,
                "shortfall_tokens": chosen.plan.shortfall,
                "composition": composition(opened, selection),
                "seconds": seconds,
            }
        )
        return
    _show_composition(composition(opened, selection))
    if chosen.plan.shortfall:
        say(f"note: the corpus falls short of the budget by {chosen.plan.shortfall:,} tokens.")
    say(
        f"{out}: {len(selection.doc_N):,} documents, {selection.num_tokens:,} tokens; "
        f"{seconds:.2f} s."
    )


@app.command()
def harvest(
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    seed: Annotated[int, typer.Option("--seed", help="Which files are taken and held out.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Make a corpus and a reference task from what is installed with mads (for the demo)."""
    from mads.corpus.harvest import harvest as run
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


def parse_count(text: str) -> int:
    """Return a number such as ``5M`` or ``1.5B``; raises UsageError.

    >>> parse_count("5M"), parse_count("1_000")
    (5000000, 1000)
    """
    units = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
    unit = text[-1:].upper() if text[-1:].isalpha() else ""
    try:
        value = float(text[: len(text) - len(unit)]) * units[unit]
    except (ValueError, KeyError) as error:
        raise UsageError(f"--tokens {text!r} is not a number; write 5M or 1.5B, say.") from error
    if not 1 <= value < 2**62:
        raise UsageError(f"--tokens {text!r}: expected at least 1.")
    return round(value)


def _select_recipe(run: Path | None, recipe: Path | None, changes: list[str] | None) -> Recipe:
    """Return the run's own recipe unless another one is given."""
    from mads.config import load_recipe
    from mads.run_dir import RunDir

    if recipe is None and run is not None and RunDir(run).recipe.is_file():
        recipe = RunDir(run).recipe
    return load_recipe(recipe, changes or ())


def composition(store: Store, selection: Any) -> dict[str, dict[str, list[float]]]:
    """Return each category's share of tokens: [in the corpus, in the selection]."""
    import numpy as np

    cells = store.cells
    picked_C = np.bincount(selection.cell_N, selection.num_tokens_N, len(cells))
    result: dict[str, dict[str, list[float]]] = {}
    for column, agent in enumerate(cells.agents):
        names = cells.categories[agent]
        category_C = cells.category_CA[:, column]
        before = np.bincount(category_C, cells.num_tokens_C, len(names)) / cells.num_tokens_C.sum()
        after = np.bincount(category_C, picked_C, len(names)) / max(picked_C.sum(), 1)
        result[agent] = {name: [float(before[i]), float(after[i])] for i, name in enumerate(names)}
    return result


def _show_composition(shares: dict[str, dict[str, list[float]]]) -> None:
    from mads.terminal import table

    for agent, categories in shares.items():
        rows = [
            [name, f"{before:.1%}", f"{after:.1%}", f"{after / before:.2f}" if before else "–"]
            for name, (before, after) in categories.items()
        ]
        table(f"{agent}: share of tokens", ["category", "corpus", "selection", "ratio"], rows)


def _show_store(store: Store) -> None:
    import numpy as np

    from mads.terminal import table

    cells = store.cells
    for column, agent in enumerate(cells.agents):
        names = cells.categories[agent]
        docs = np.bincount(cells.category_CA[:, column], cells.num_docs_C, len(names))
        tokens = np.bincount(cells.category_CA[:, column], cells.num_tokens_C, len(names))
        rows = [
            [
                name,
                f"{int(docs[i]):,}",
                f"{docs[i] / docs.sum():.1%}",
                f"{tokens[i] / tokens.sum():.1%}",
            ]
            for i, name in enumerate(names)
        ]
        table(agent, ["category", "documents", "of documents", "of tokens"], rows)


def _show_weights(theta: Any, weights: Any) -> None:
    from mads.terminal import table

    for agent, categories in weights.items():
        ranked = sorted(categories.items(), key=lambda item: -item[1])
        rows = [[name, f"{value:.3f}"] for name, value in ranked]
        table(f"{agent}: θ = {theta[agent]:.3f}", ["category", "w"], rows)


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + os.linesep)
