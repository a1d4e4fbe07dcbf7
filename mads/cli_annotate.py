"""`mads annotate`: on this machine, or in parts on many."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from mads import options
from mads.errors import UsageError


def annotate(
    corpus: options.CorpusArgument,
    out: options.NewStoreOption,
    ram: Annotated[
        str,
        typer.Option("--ram", metavar="SIZE", help="For building the index, e.g. 4GB (index_ram)."),
    ] = "",
    max_bad: Annotated[
        str,
        typer.Option("--max-bad", metavar="X%", help="Fail when more rows are bad; default any."),
    ] = "",
    verify: Annotated[
        bool, typer.Option("--verify", help="Read and compare every file, whatever its time.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only decide what parts on many machines agree on.")
    ] = False,
    shard: Annotated[
        str,
        typer.Option(
            "--shard",
            metavar="I/N|auto",
            help="Do part i of n of what was planned, i from 1; auto: as Slurm or torchrun says.",
        ),
    ] = "",
    finish: Annotated[
        bool, typer.Option("--finish", help="Build the index of what parts have done.")
    ] = False,
    executor: Annotated[
        str, typer.Option("--executor", metavar="NAME", help="Who labels (corpus.executor).")
    ] = "",
    recipe: options.RecipeOption = None,
    changes: options.SetOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Label the whole corpus once: agents' memories, tokens and the cell index."""
    from mads.annotate import annotate as stage
    from mads.annotate import sharded
    from mads.codec import to_json
    from mads.recipe import load_recipe
    from mads.store.store import Store
    from mads.tables import show_annotated, show_part_done, show_planned
    from mads.terminal import print_json, progress
    from mads.units import parse_share

    if plan + bool(shard) + finish > 1:
        raise UsageError("give one of --plan, --shard i/n and --finish, in this order.")
    if verify and (shard or finish):
        raise UsageError("--verify reads everything: give it to --plan, or without --shard.")
    part = sharded.parse_shard(shard) if shard else None
    begun = time.perf_counter()
    overrides = [*(changes or ()), *([f"index_ram={json.dumps(ram)}"] if ram else ())]
    if executor:
        overrides.append(f"corpus.executor={json.dumps(executor)}")
    if max_bad:
        overrides.append(f"corpus.max_bad={parse_share(max_bad, '--max-bad')}")
    found: sharded.Planned | sharded.PartDone | stage.AnnotateResult
    with progress() as report:
        settings = load_recipe(recipe, overrides)
        if plan:
            found = sharded.plan(corpus, out, settings, report, verify=verify)
        elif part is not None:
            found = sharded.annotate_part(corpus, out, settings, part, report)
        elif finish:
            found = sharded.finish(corpus, out, settings, report)
        else:
            found = stage.annotate(corpus, out, settings, report, verify=verify)
    seconds = time.perf_counter() - begun
    if as_json:
        print_json({**to_json(found), "store": str(out), "seconds": seconds})
    elif isinstance(found, sharded.Planned):
        show_planned(out, found, seconds)
    elif isinstance(found, sharded.PartDone):
        show_part_done(out, found, seconds)
    else:
        show_annotated(out, found, Store(out).cells, seconds)
